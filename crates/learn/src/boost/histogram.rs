use std::{
    ops::{AddAssign, Range, Sub, SubAssign},
    thread,
};

use super::bins::{Bins, Column};

/// First and second derivative of the loss by the score, of one row.
pub(super) type Gradient = [f32; 2];

/// Sums over some rows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Sums {
    pub(super) gradient: f64,
    pub(super) hessian: f64,
    pub(super) rows: u32,
}

impl Sums {
    /// Over all of these.
    pub(super) fn over(gradients: &[Gradient]) -> Self {
        let mut sums = Self::default();
        gradients.iter().for_each(|gradient| sums.add(*gradient));
        sums
    }

    fn add(&mut self, [gradient, hessian]: Gradient) {
        self.gradient += f64::from(gradient);
        self.hessian += f64::from(hessian);
        self.rows += 1;
    }
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.gradient += other.gradient;
        self.hessian += other.hessian;
        self.rows += other.rows;
    }
}

impl SubAssign for Sums {
    fn sub_assign(&mut self, other: Self) {
        self.gradient -= other.gradient;
        self.hessian -= other.hessian;
        self.rows -= other.rows;
    }
}

impl Sub for Sums {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        self -= other;
        self
    }
}

/// The rows of a node by the code of one column.
pub(super) fn fill(cells: &mut [Sums], codes: &[u8], rows: &[u32], gradients: &[Gradient]) {
    for (row, gradient) in rows.iter().zip(gradients) {
        cells[usize::from(codes[*row as usize])].add(*gradient);
    }
}

/// What is left of a node without one of its children: cheaper than to count the other child.
pub(super) fn subtract(cells: &mut [Sums], child: &[Sums]) {
    cells.iter_mut().zip(child).for_each(|(cell, child)| *cell -= *child);
}

/// Where the histograms of the columns of one tree stand in one list of cells.
pub(super) struct Layout<'a> {
    places: Vec<Place<'a>>,
}

/// Where one column stands.
pub(super) struct Place<'a> {
    pub(super) index: usize,
    pub(super) column: &'a Column,
    pub(super) cells: Range<usize>,
}

impl<'a> Layout<'a> {
    pub(super) fn new(bins: &'a Bins, columns: &[usize]) -> Self {
        let mut end = 0;
        let places = columns.iter().map(|index| {
            let column = bins.column(*index);
            let start = end;
            end += column.width();
            Place { index: *index, column, cells: start..end }
        });
        Self { places: places.collect() }
    }

    /// How many cells all columns take.
    pub(super) fn cells(&self) -> usize {
        self.places.last().map_or(0, |place| place.cells.end)
    }

    pub(super) fn columns(&self) -> usize {
        self.places.len()
    }

    /// Does some work for every column on its own cells; the results are in the order of the columns. Threads share the columns
    /// out, not the rows, so that no sum depends on how many there are.
    pub(super) fn each<R: Send>(
        &self,
        cells: &mut [Sums],
        threads: usize,
        work: impl Fn(&Place<'a>, &mut [Sums]) -> R + Sync,
    ) -> Vec<R> {
        let mut rest = cells;
        let mut jobs: Vec<(&Place<'a>, &mut [Sums])> = Vec::with_capacity(self.places.len());
        for place in &self.places {
            let (mine, others) = rest.split_at_mut(place.cells.len());
            rest = others;
            jobs.push((place, mine));
        }
        let run = |jobs: &mut [(&Place<'a>, &mut [Sums])]| -> Vec<R> {
            jobs.iter_mut().map(|(place, cells)| work(place, cells)).collect()
        };
        if threads <= 1 || jobs.len() <= 1 {
            return run(&mut jobs);
        }
        let per_thread = jobs.len().div_ceil(threads);
        let (mine, theirs) = jobs.split_at_mut(per_thread);
        let run = &run;
        thread::scope(|scope| {
            let helpers: Vec<_> =
                theirs.chunks_mut(per_thread).map(|jobs| scope.spawn(move || run(jobs))).collect();
            let mut done = run(mine);
            for helper in helpers {
                done.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::matrix::{Matrix, Weights};

    proptest! {
        #[test]
        fn the_rest_of_a_node_is_the_other_child_and_threads_change_nothing(
            codes in prop::collection::vec((0u8..8, -4i8..4, any::<bool>()), 1..200),
        ) {
            let all: Vec<u8> = codes.iter().map(|c| c.0).collect();
            let gradients: Vec<Gradient> = codes.iter().map(|c| [f32::from(c.1), 0.5]).collect();
            let histogram = |side: Option<bool>| {
                let rows: Vec<u32> = (0u32..).zip(&codes).filter(|(_, c)| side.is_none_or(|s| s == c.2)).map(|c| c.0).collect();
                let mine: Vec<Gradient> = rows.iter().map(|row| gradients[*row as usize]).collect();
                let mut cells = vec![Sums::default(); 8];
                fill(&mut cells, &all, &rows, &mine);
                cells
            };
            let mut cells = histogram(None);
            subtract(&mut cells, &histogram(Some(true)));
            prop_assert_eq!(cells, histogram(Some(false)));

            let values = codes.iter().flat_map(|c| [f32::from(c.0), f32::from(c.1), 1.0]).collect();
            let matrix = Matrix::new(3, values).unwrap();
            let bins = Bins::new(&matrix, Weights::new(None, codes.len()).unwrap(), 255, 1);
            let layout = Layout::new(&bins, &[0, 1, 2]);
            let rows: Vec<u32> = (0u32..).take(codes.len()).collect();
            let run = |threads| {
                let mut cells = vec![Sums::default(); layout.cells()];
                let indices = layout.each(&mut cells, threads, |place, cells| {
                    fill(cells, place.column.codes(), &rows, &gradients);
                    place.index
                });
                (cells, indices)
            };
            prop_assert_eq!(run(1), run(2));
            prop_assert_eq!(run(1), run(7));
        }
    }
}
