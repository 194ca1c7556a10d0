/// Counts by rank that are added to and summed up in logarithmic time (Fenwick 1994,
/// <https://doi.org/10.1002/spe.4380240306>).
#[derive(Debug, Clone)]
pub(super) struct Fenwick {
    /// Element `n` is the sum of the `lowest_bit(n + 1)` counts that end with rank `n`.
    sums: Vec<u64>,
}

impl Fenwick {
    /// Ranks from 0 to below `ranks`, all counts zero.
    pub(super) fn new(ranks: usize) -> Self {
        Self { sums: vec![0; ranks] }
    }

    /// Counts one more of `rank`.
    pub(super) fn add(&mut self, rank: usize) {
        let mut place = rank + 1;
        while let Some(sum) = self.sums.get_mut(place - 1) {
            *sum += 1;
            place += lowest_bit(place);
        }
    }

    /// How many were counted of ranks below `rank`.
    pub(super) fn below(&self, rank: usize) -> u64 {
        let mut place = rank.min(self.sums.len());
        let mut sum = 0;
        while place > 0 {
            sum += self.sums[place - 1];
            place -= lowest_bit(place);
        }
        sum
    }
}

fn lowest_bit(number: usize) -> usize {
    number & number.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_counts_as_a_list_does(ranks in prop::collection::vec(0usize..40, 0..100), below in 0usize..45) {
            let mut counts = Fenwick::new(40);
            ranks.iter().for_each(|rank| counts.add(*rank));
            prop_assert_eq!(counts.below(below), ranks.iter().filter(|rank| **rank < below).count() as u64);
        }
    }
}
