mod follow;
mod golden;
mod tally;
mod templates;
