use std::collections::BTreeMap;

use forefend_domain::{CellId, Family, MetricKind, ServiceId};
use serde::Deserialize;

/// Which expressions of PromQL are which metrics of which cells.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// The metrics that every cell has. In their expressions `$cell` stands for the cell's name and `$NAME` for its label NAME.
    #[serde(default)]
    pub metrics: BTreeMap<String, MappedMetric>,
    /// The cells.
    pub cells: BTreeMap<CellId, MappedCell>,
}

/// A cell of a [`Mapping`].
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedCell {
    /// Its service.
    #[serde(default)]
    pub service: Option<ServiceId>,
    /// What `$NAME` stands for in its expressions.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Metrics of its own; they go before those of all cells.
    #[serde(default)]
    pub metrics: BTreeMap<String, MappedMetric>,
}

/// A metric of a [`Mapping`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedMetric {
    /// The expression, which must yield one series at most. Of something that only grows: its rate.
    pub query: String,
    /// What it tells.
    #[serde(default)]
    pub family: Option<Family>,
    /// What reaching its limit means.
    #[serde(default)]
    pub kind: Option<MetricKind>,
    /// The unit of its values.
    #[serde(default)]
    pub unit: Option<String>,
    /// The value that must not be reached.
    #[serde(default)]
    pub limit: Option<f64>,
    /// The expression of that value, where it changes.
    #[serde(default)]
    pub limit_query: Option<String>,
}

/// A mapping that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MappingError {
    /// The text is none.
    #[error("{0}")]
    Text(String),
    /// A metric has two limits.
    #[error("metric {metric} of cell {cell} has both `limit` and `limit_query`; leave one of them out")]
    TwoLimits {
        /// Of which cell.
        cell: CellId,
        /// Which metric.
        metric: String,
    },
    /// An expression names what nobody said.
    #[error(
        "the expression `{expression}` of cell {cell} holds `${name}`, and the cell has no such label; add it under `labels`"
    )]
    NoLabel {
        /// Of which cell.
        cell: CellId,
        /// As written.
        expression: String,
        /// Without the dollar sign.
        name: String,
    },
    /// There is nothing to ask.
    #[error("it names no metric of any cell; name some under `metrics`")]
    Nothing,
}

/// What is asked for one metric of one cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Of which cell.
    pub cell: CellId,
    /// Its service.
    pub service: Option<ServiceId>,
    /// Which metric.
    pub metric: String,
    /// What it is; its expressions are complete.
    pub what: MappedMetric,
}

impl Mapping {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// [`MappingError::Text`] names line and column.
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        serde_saphyr::from_str(text).map_err(|error| MappingError::Text(error.to_string()))
    }

    /// All that is to be asked, cell by cell.
    ///
    /// # Errors
    /// [`MappingError`] names the cell and what to do.
    pub fn queries(&self) -> Result<Vec<Query>, MappingError> {
        let mut queries = Vec::new();
        for (cell, mapped) in &self.cells {
            let mut metrics = self.metrics.clone();
            metrics.extend(mapped.metrics.clone());
            for (metric, mut what) in metrics {
                if what.limit.is_some() && what.limit_query.is_some() {
                    return Err(MappingError::TwoLimits { cell: cell.clone(), metric });
                }
                what.query = completed(&what.query, cell, mapped)?;
                if let Some(expression) = &mut what.limit_query {
                    *expression = completed(expression, cell, mapped)?;
                }
                queries.push(Query { cell: cell.clone(), service: mapped.service.clone(), metric, what });
            }
        }
        if queries.is_empty() { Err(MappingError::Nothing) } else { Ok(queries) }
    }
}

/// A dollar sign that no name follows stays: regular expressions end with it.
fn completed(expression: &str, cell: &CellId, mapped: &MappedCell) -> Result<String, MappingError> {
    let mut parts = expression.split('$');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        match name {
            "" => whole.push('$'),
            "cell" => whole.push_str(cell.as_str()),
            name => match mapped.labels.get(name) {
                Some(value) => whole.push_str(&escaped(value)),
                None => {
                    let (cell, expression) = (cell.clone(), expression.to_owned());
                    return Err(MappingError::NoLabel { cell, expression, name: name.to_owned() });
                }
            },
        }
        whole.push_str(rest);
    }
    Ok(whole)
}

/// As it must stand between double quotes in PromQL.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
