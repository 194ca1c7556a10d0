use serde::{Deserialize, Serialize};

/// Gates of a cell of memory: input, forget, output, and the candidate, in this order.
const GATES: usize = 4;

/// A layer of memory: `hidden` cells that see `inputs` numbers a step.
///
/// Weights lie by row, a row an input, `4 · hidden` numbers each: those of the input gate, of the forget gate, of the output gate, of the
/// candidate. So a step adds rows up, which needs no order of sums to be changed to be fast, and skips inputs that are 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LstmLayer {
    /// How many numbers it sees.
    pub inputs: usize,
    /// How many cells of memory it has.
    pub hidden: usize,
    /// `inputs` rows.
    pub input: Vec<f32>,
    /// `hidden` rows, for what the layer itself said a step before.
    pub recurrent: Vec<f32>,
    /// One row.
    pub bias: Vec<f32>,
}

/// What a layer remembers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Memory {
    /// What it said last, a number a cell, from −1 to 1.
    pub(super) said: Vec<f32>,
    /// What its cells hold.
    pub(super) held: Vec<f32>,
}

impl Memory {
    pub(super) fn of(layer: &LstmLayer) -> Self {
        Self { said: vec![0.0; layer.hidden], held: vec![0.0; layer.hidden] }
    }

    pub(super) fn fits(&self, layer: &LstmLayer) -> bool {
        self.said.len() == layer.hidden
            && self.held.len() == layer.hidden
            && self.said.iter().chain(&self.held).all(|number| number.is_finite())
    }
}

impl LstmLayer {
    /// What is wrong with it, if anything.
    pub(super) fn fault(&self) -> Option<String> {
        let (inputs, hidden) = (self.inputs, self.hidden);
        if inputs == 0 || hidden == 0 {
            return Some(format!("a layer of {inputs} inputs and {hidden} cells remembers nothing"));
        }
        let row = hidden.checked_mul(GATES)?;
        for (what, numbers, rows) in
            [("input", &self.input, inputs), ("recurrent", &self.recurrent, hidden), ("bias", &self.bias, 1)]
        {
            if row.checked_mul(rows) != Some(numbers.len()) {
                let have = numbers.len();
                return Some(format!("{have} {what} weights for {inputs} inputs and {hidden} cells"));
            }
            if !numbers.iter().all(|number| number.is_finite()) {
                return Some(format!("one of the {what} weights is not finite"));
            }
        }
        None
    }

    /// What the gates are told by what came in and by what was said before.
    pub(super) fn told(&self, inputs: &[f32], before: &Memory) -> Vec<f32> {
        let mut told = self.bias.clone();
        add_rows(&mut told, &self.input, inputs);
        add_rows(&mut told, &self.recurrent, &before.said);
        told
    }

    /// Takes a part of one input away from what the gates were told.
    pub(super) fn untell(&self, told: &mut [f32], input: usize, value: f32) {
        let width = told.len();
        add(told, &self.input[input * width..(input + 1) * width], -value);
    }

    /// One step of memory, from what the gates were told.
    pub(super) fn remember(&self, told: &[f32], memory: &mut Memory) {
        let (gates, candidate) = told.split_at(3 * self.hidden);
        for n in 0..self.hidden {
            let [input, forget, output] =
                [gates[n], gates[n + self.hidden], gates[n + 2 * self.hidden]].map(sigmoid);
            let held = forget * memory.held[n] + input * candidate[n].tanh();
            memory.held[n] = held;
            memory.said[n] = output * held.tanh();
        }
    }
}

/// Adds every row of `weights`, times its number.
pub(super) fn add_rows(to: &mut [f32], weights: &[f32], numbers: &[f32]) {
    for (row, number) in weights.chunks_exact(to.len()).zip(numbers) {
        if *number != 0.0 {
            add(to, row, *number);
        }
    }
}

fn add(to: &mut [f32], row: &[f32], times: f32) {
    for (sum, weight) in to.iter_mut().zip(row) {
        *sum += times * weight;
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}
