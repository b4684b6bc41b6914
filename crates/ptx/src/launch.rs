//! A module of kernels, and the launch of one.

use crate::access::Access;
use crate::block::Block;
use crate::decode::decode;
use crate::error::PtxError;
use crate::memory::{Memory, Region};
use crate::parse::parse;
use crate::program::Program;
use crate::shuffle::Shuffle;
use crate::store::{Store, Who};
use crate::warp::Place;

/// Kernels, read and decoded.
#[derive(Debug)]
pub struct Module {
    programs: Vec<Program>,
}

/// How a kernel is launched.
#[derive(Debug, Clone)]
pub struct Launch<'a> {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub dynamic_shared_bytes: u32,
    /// The arguments, each as its bytes.
    pub arguments: &'a [&'a [u8]],
    /// What the kernel may touch.
    pub regions: &'a [Region],
    /// Seed of the orders that are not defined.
    pub seed: u64,
    /// Most warp instructions of one block; more is taken for an endless loop.
    pub limit: u64,
}

/// What a launch took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ran {
    /// Instructions, counted for each thread.
    pub instructions: u64,
    /// Passes over the banks of shared memory that `ldmatrix` and accesses of 16 bytes took beyond the fewest.
    pub bank_conflicts: u64,
}

/// What a card of sm_80 and later gives one block at most; 86, 89 and 120 give 99 KiB.
const MOST_SHARED_BYTES: u64 = 163 << 10;

impl Module {
    /// Reads and decodes PTX text.
    pub fn read(text: &str) -> Result<Module, PtxError> {
        Ok(Module { programs: decode(&parse(text)?)? })
    }

    /// Names of the kernels, in the order of the text.
    pub fn kernels(&self) -> impl Iterator<Item = &str> {
        self.programs.iter().map(|program| program.name.as_str())
    }

    /// Bytes of shared memory that a kernel takes before a launch adds to them.
    pub fn static_shared_bytes(&self, kernel: &str) -> Option<u64> {
        self.programs.iter().find(|program| program.name == kernel).map(|program| program.static_shared_bytes)
    }

    /// Runs a kernel to its end.
    pub fn launch(&self, kernel: &str, launch: &Launch, memory: &mut Memory) -> Result<Ran, PtxError> {
        let refuse = |problem: String| PtxError::Launch { kernel: kernel.into(), problem };
        let found = self.programs.iter().find(|program| program.name == kernel);
        let program = found.ok_or_else(|| refuse("the module has no such kernel".into()))?;
        check_sizes(program, launch).map_err(refuse)?;
        let params = parameter_bytes(program, launch.arguments).map_err(refuse)?;
        let shared_bytes = shared_bytes(program, launch);
        let mut shared = Store::new(shared_bytes as usize);
        let mut shuffle = Shuffle::new(launch.seed);
        let [x, y, z] = launch.grid;
        memory.clock += 1;
        let launch_at = memory.clock;
        let mut ran = Ran::default();
        for linear in shuffle.order((x * y * z) as usize) {
            let linear = linear as u32;
            memory.clock += 1;
            let block_at = memory.clock;
            let who = Who { now: block_at, launch_at, block_at, barrier_at: block_at, ..Who::default() };
            shared.forget(0..shared_bytes as usize);
            let block_index = [linear % x, linear / x % y, linear / (x * y)];
            let access = Access {
                memory,
                regions: launch.regions,
                shared: &mut shared,
                constants: &program.constant_bytes,
                params: &params,
                threads: 1,
                who,
                conflicts: 0,
            };
            let place = Place { grid: launch.grid, block: launch.block, block_index };
            let limit = launch.limit;
            let mut block = Block { program, place, linear, access, shuffle: &mut shuffle, limit, count: 0 };
            block.run()?;
            ran.instructions += block.count;
            ran.bank_conflicts += block.access.conflicts;
        }
        Ok(ran)
    }
}

fn shared_bytes(program: &Program, launch: &Launch) -> u64 {
    match launch.dynamic_shared_bytes {
        0 => program.static_shared_bytes,
        dynamic => program.dynamic_shared_offset + u64::from(dynamic),
    }
}

fn check_sizes(program: &Program, launch: &Launch) -> Result<(), String> {
    let product = |sizes: [u32; 3]| sizes.iter().map(|&size| u64::from(size)).product::<u64>();
    let threads = product(launch.block);
    if !(1..=1024).contains(&threads) {
        return Err(format!("a block of {threads} threads; 1 to 1024 are possible"));
    }
    match program.most_threads {
        Some((exact, true)) if threads != exact => {
            return Err(format!("a block of {threads} threads; the kernel wants {exact}"));
        }
        Some((most, _)) if threads > most => {
            return Err(format!("a block of {threads} threads; the kernel is compiled for at most {most}"));
        }
        _ => {}
    }
    let [_, y, z] = launch.grid;
    let all = product(launch.grid).saturating_mul(threads);
    if all == 0 || all >= 1 << 31 || y > 65535 || z > 65535 {
        return Err(format!("a grid of {:?} blocks is empty, or too large", launch.grid));
    }
    let shared = shared_bytes(program, launch);
    if shared > MOST_SHARED_BYTES {
        return Err(format!("{shared} bytes of shared memory; a block has at most {MOST_SHARED_BYTES}"));
    }
    Ok(())
}

fn parameter_bytes(program: &Program, arguments: &[&[u8]]) -> Result<Vec<u8>, String> {
    if arguments.len() != program.params.len() {
        return Err(format!("{} arguments; the kernel takes {}", arguments.len(), program.params.len()));
    }
    let mut bytes = Vec::new();
    for (index, ((param, &offset), argument)) in
        program.params.iter().zip(&program.param_offsets).zip(arguments).enumerate()
    {
        if argument.len() as u64 != param.bytes {
            return Err(format!("argument {index} has {} bytes; the kernel takes {}", argument.len(), param.bytes));
        }
        bytes.resize(offset as usize, 0);
        bytes.extend_from_slice(argument);
    }
    Ok(bytes)
}
