/// Rows that other languages can make up just the same: a linear congruential generator (the constants of MMIX, Knuth 1997,
/// The Art of Computer Programming 2, §3.3.4).
pub(crate) struct MadeUp(u64);

impl MadeUp {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in [0, 1): the upper 32 bits of the next state.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as f64 / 4_294_967_296.0
    }

    pub(crate) fn uniforms(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.uniform()).collect()
    }

    pub(crate) fn is_below(&mut self, p: f64) -> bool {
        self.uniform() < p
    }
}
