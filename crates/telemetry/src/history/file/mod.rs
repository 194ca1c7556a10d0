//! Histories as files.

pub(super) mod csv;
pub(super) mod parquet_read;
pub(super) mod parquet_write;
