//! The file's contents as typed values, section by section.

mod blueprint;
mod choices;
mod engine;
mod learning;
mod policy;
mod prometheus;
mod service;
mod topology;

pub use blueprint::{
    BlueprintConfig, Dependency, EnvValue, Image, NetworkConfig, Protection, Readiness, Replay, ReplayMethod,
    ResourcesConfig, WarmUp,
};
pub use choices::{DataRule, GiveBackRate, LagRule, Limit, Listen, Protocol, Role, Sticky, Version};
pub use engine::{
    ApiConfig, ApiRole, CellsConfig, DirectorConfig, EngineConfig, ForecastConfig, ReceiveConfig,
    SecretConfig, TokenConfig, WindowConfig,
};
pub use learning::{LearningConfig, Promotion};
pub use policy::{
    BudgetsConfig, CanaryConfig, GiveBackConfig, LeadTimesConfig, PolicyConfig, ReliefConfig, StandbyConfig,
    TriggerConfig,
};
pub use prometheus::{HttpUrl, PrometheusConfig, PrometheusMetricConfig};
pub use service::{
    EjectionConfig, HealthConfig, LogLimitConfig, LogsConfig, MetricConfig, ObjectiveConfig, ProbeConfig,
    RetriesConfig, ScrapeConfig, ServiceConfig, Severity, TimeoutsConfig,
};
pub use topology::{CellConfig, Config, MirrorConfig, RegionConfig};
