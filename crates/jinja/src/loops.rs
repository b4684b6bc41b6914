//! Loops, and which message they are at. Invariant: each step has a scope of its own, and what it writes is noted for the
//! message that it is at: the loop's item, or the first message that a step of a loop over something else assigns.

use crate::ast::For;
use crate::error::Result;
use crate::interp::{Flow, Frame, Interp, LoopState};
use crate::sorting::Items;
use crate::value::{Dict, Object, Value};
use std::rc::Rc;

impl<'a> Interp<'a> {
    pub(crate) fn for_loop(&mut self, of: &'a For) -> Result<Flow> {
        let items = self.eval(&of.items)?;
        let frame = self.frame.clone();
        self.run_loop(of, &items, frame, 1)
    }

    /// One loop, or one level of a recursive one.
    pub(crate) fn run_loop(&mut self, of: &'a For, items: &Value, frame: Rc<Frame>, depth: usize) -> Result<Flow> {
        let mut items = self.iterate(items)?;
        if let Some(condition) = &of.condition {
            let mut kept = Vec::new();
            for item in items.iter() {
                let holds = self.in_scope_of(frame.clone(), |interp| {
                    interp.assign(&of.target, item.clone())?;
                    interp.condition(condition)
                })?;
                if holds {
                    self.meter.list(1)?;
                    kept.push(item.clone());
                }
            }
            items = Items::Owned(kept);
        }
        let count = items.len();
        if count == 0 {
            return self.in_scope_of(frame, |interp| interp.block(&of.otherwise));
        }
        self.meter.list(3)?;
        let number = self.loops.len();
        let recursive = of.recursive.then(|| (of, frame.clone()));
        self.loops.push(LoopState { items, index: 0, depth, changed: None, recursive });
        let around = (self.message, self.message_depth);
        self.in_loops += 1;
        let flow = self.loop_steps(of, number, count, &frame, around);
        self.in_loops -= 1;
        flow.map(|()| Flow::Normal)
    }

    fn loop_steps(
        &mut self,
        of: &'a For,
        number: usize,
        count: usize,
        frame: &Rc<Frame>,
        around: (Option<u32>, usize),
    ) -> Result<()> {
        for index in 0..count {
            self.meter.steps(1)?;
            self.loops[number].index = index;
            let item = self.loops[number].items[index].clone();
            let flow = self.in_scope_of(frame.clone(), |interp| {
                interp.notice(&item);
                interp.set_named("loop", Value::Object(Object::Loop(number)));
                interp.assign(&of.target, item)?;
                interp.block(&of.body)
            });
            (self.message, self.message_depth) = around;
            if flow? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// What is written from now on, in this step of the loop, is written for this message.
    pub(crate) fn notice(&mut self, item: &Value) {
        let inner = match item {
            // `for i, message in …`
            Value::Seq(seq) if seq.items.len() == 2 => &seq.items[1],
            item => item,
        };
        if let Some(message) = inner.as_dict().and_then(Dict::message) {
            (self.message, self.message_depth) = (Some(message), self.in_loops);
        }
    }
}
