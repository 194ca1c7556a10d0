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
        let (input, more) = told.split_at(self.hidden);
        let (forget, more) = more.split_at(self.hidden);
        let (output, candidate) = more.split_at(self.hidden);
        let gates = input.iter().zip(forget).zip(output).zip(candidate);
        let cells = memory.held.iter_mut().zip(&mut memory.said);
        for ((((input, forget), output), candidate), (held, said)) in gates.zip(cells) {
            *held = sigmoid(*forget) * *held + sigmoid(*input) * tanh(*candidate);
            *said = sigmoid(*output) * tanh(*held);
        }
    }
}

/// Adds every row of `weights`, times its number: four at once, one after the other, so that what they are added to is read and written
/// once.
pub(super) fn add_rows(to: &mut [f32], weights: &[f32], numbers: &[f32]) {
    let rows = weights.chunks_exact(to.len()).zip(numbers.iter().copied());
    let (mut waiting, mut count) = ([(&weights[..0], 0.0); 4], 0);
    for row in rows.filter(|(_, number)| *number != 0.0) {
        waiting[count] = row;
        count += 1;
        if count == waiting.len() {
            count = 0;
            let [(first, a), (second, b), (third, c), (fourth, d)] = waiting;
            let four = first.iter().zip(second).zip(third).zip(fourth);
            for (sum, (((first, second), third), fourth)) in to.iter_mut().zip(four) {
                *sum = (((*sum + a * first) + b * second) + c * third) + d * fourth;
            }
        }
    }
    for (row, number) in &waiting[..count] {
        add(to, row, *number);
    }
}

fn add(to: &mut [f32], row: &[f32], times: f32) {
    for (sum, weight) in to.iter_mut().zip(row) {
        *sum += times * weight;
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// The exponential function, to 2e-7 of its value (Cephes' polynomial): without a branch or a call, so that the compiler works out
/// several at once. What is beyond ±87 counts as there.
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// Whose fraction has no bits: what is added is rounded.
    const WHOLE: f32 = 12_582_912.0;
    let x = if x < 87.0 { x } else { 87.0 };
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + WHOLE;
    let powers = shifted - WHOLE;
    let rest = (x - powers * LN_2_HIGH) - powers * LN_2_LOW;
    let mut series = 1.987_569_1e-4f32;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        series = series * rest + coefficient;
    }
    let below = series * (rest * rest) + rest + 1.0;
    below * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_what_they_are_called_to_seven_digits() {
        for n in -200_000..=200_000i32 {
            let x = n as f32 * 5e-4;
            let exact = f64::from(x).exp();
            let off = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(off < 2e-7 || x.abs() > 87.0, "exp({x}) is off by {off}");
            let off = (f64::from(sigmoid(x)) - 1.0 / (1.0 + (-f64::from(x)).exp())).abs();
            assert!(off < 2e-7, "sigmoid({x}) is off by {off}");
            let off = (f64::from(tanh(x)) - f64::from(x).tanh()).abs();
            assert!(off < 2e-7, "tanh({x}) is off by {off}");
        }
        for (x, wanted) in [(f32::INFINITY, 1.0), (f32::NEG_INFINITY, 0.0)] {
            assert!((sigmoid(x) - wanted).abs() < 1e-37);
            assert_eq!(tanh(x), 2.0 * wanted - 1.0);
        }
    }
}
