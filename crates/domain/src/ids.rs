use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::DomainError;

/// Longest permitted name in bytes: that of a DNS label (RFC 1035 §2.3.4), so that names can become host names.
const MAX_NAME_BYTES: usize = 63;

fn checked(kind: &'static str, name: &str) -> Result<Arc<str>, DomainError> {
    let starts_well = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let all_fine = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if starts_well && all_fine && name.len() <= MAX_NAME_BYTES {
        Ok(Arc::from(name))
    } else {
        Err(DomainError::BadName { kind, name: name.to_owned() })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `name` and wraps it.
            ///
            /// # Errors
            /// [`DomainError::BadName`] when it is empty, longer than 63 bytes or holds a forbidden character.
            pub fn new(name: &str) -> Result<Self, DomainError> {
                checked($kind, name).map(Self)
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = DomainError;
            fn try_from(name: String) -> Result<Self, DomainError> {
                Self::new(&name)
            }
        }

        impl std::str::FromStr for $type {
            type Err = DomainError;
            fn from_str(name: &str) -> Result<Self, DomainError> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.to_string()
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name!(
    /// A region: holds zones.
    RegionId,
    "region id"
);
name!(
    /// A zone: a part of a region that fails as one.
    ZoneId,
    "zone id"
);
name!(
    /// A service: what cells are copies of.
    ServiceId,
    "service id"
);
name!(
    /// A cell: one running copy of a service. Unique over all services.
    CellId,
    "cell id"
);
name!(
    /// The name of a blueprint; its versions are told apart by [`BlueprintHash`].
    BlueprintName,
    "blueprint name"
);
name!(
    /// The content hash of one version of a blueprint, in hexadecimal.
    BlueprintHash,
    "blueprint hash"
);

/// The name of a metric, with its labels when it has any: `http_errors_total{code="500"}`.
///
/// Unlike the other names it may hold any printable character, for it comes from the cells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MetricName(Arc<str>);

impl MetricName {
    /// Wraps a name as it came from the cell.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MetricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_are_made() {
        assert!(CellId::new("shop-north-1").is_ok());
        for bad in ["", "-x", "a b", "a/b", "é", &"x".repeat(64)] {
            assert!(CellId::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(serde_json::from_str::<CellId>("\"a b\"").is_err());
    }
}
