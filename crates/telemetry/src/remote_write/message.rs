//! The parts of the two messages that are kept, by the numbers of their fields; fields that are not named are passed over.
//!
//! Sources: `prompb/types.proto` and `prompb/io/prometheus/write/v2/types.proto` of
//! <https://github.com/prometheus/prometheus>.

/// `prometheus.TimeSeries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeriesV1 {
    #[prost(message, repeated, tag = "1")]
    pub(super) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    pub(super) histograms: Vec<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Label {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

/// The same in both versions, but for the start.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Sample {
    #[prost(double, tag = "1")]
    pub(super) value: f64,
    /// In ms since 1970.
    #[prost(int64, tag = "2")]
    pub(super) timestamp: i64,
    /// In ms since 1970; 0: not told. Version 2 only.
    #[prost(int64, tag = "3")]
    pub(super) start_timestamp: i64,
}

pub(super) const RESET_YES: i32 = 1;
pub(super) const RESET_GAUGE: i32 = 3;

/// A native histogram without its buckets; the same in both versions, but for the start.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Histogram {
    #[prost(uint64, optional, tag = "1")]
    pub(super) count_int: Option<u64>,
    #[prost(double, optional, tag = "2")]
    pub(super) count_float: Option<f64>,
    #[prost(double, tag = "3")]
    pub(super) sum: f64,
    #[prost(int32, tag = "14")]
    pub(super) reset_hint: i32,
    #[prost(int64, tag = "15")]
    pub(super) timestamp: i64,
    #[prost(int64, tag = "17")]
    pub(super) start_timestamp: i64,
}

impl Histogram {
    pub(super) fn count(&self) -> f64 {
        self.count_float.or(self.count_int.map(|count| count as f64)).unwrap_or(0.0)
    }
}

/// `io.prometheus.write.v2.TimeSeries`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimeSeriesV2 {
    #[prost(uint32, repeated, tag = "1")]
    pub(super) labels_refs: Vec<u32>,
    #[prost(message, repeated, tag = "2")]
    pub(super) samples: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    pub(super) histograms: Vec<Histogram>,
    #[prost(message, optional, tag = "5")]
    pub(super) metadata: Option<Metadata>,
    /// In ms since 1970; 0: not told. Later drafts tell it of each sample.
    #[prost(int64, tag = "6")]
    pub(super) created_timestamp: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Metadata {
    #[prost(int32, tag = "1")]
    pub(super) kind: i32,
    #[prost(uint32, tag = "4")]
    pub(super) unit_ref: u32,
}
