use serde::{Deserialize, Serialize};

/// What a mirror has shown while it carried real users: requests it answered, and those it answered badly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Requests it completed since the shift, or the pre-test before it, began.
    pub requests: u64,
    /// Of those, errors and answers over the latency objective.
    pub bad: u64,
}

impl Evidence {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, bad: self.bad + other.bad }
    }
}
