//! Modules against torch.nn: names, first values, outputs and gradients in `fixtures/modules`, which `fixtures/modules.py` made;
//! and what they do in training and in evaluation.

mod attention;
mod block;
mod first_values;
mod images;
mod modes;
mod reference;
mod refusals;
