//! What other crates need to read files of their own in the same way: places, units, problems with remedies, schema
//! and reference from one definition.
//!
//! Define the file's sections with [`section!`](crate::section), implement [`Document`] for the whole, then [`load`] or [`parse`] it.

pub use serde_json::{Map, Value as Json, json};

pub use crate::{
    document::{Document, load, parse, parse_bytes},
    problem::{ConfigErrors, Place, Problem},
    reading::{Reading, Trail, suggestion, written},
    reference::reference_of,
    scalar,
    scalars::{duration, size},
    schema::{Definitions, Field, schema_of},
    section,
    setting::{Name, Setting, all_defaults},
    tree::{Node, Value},
    units::{show_duration, show_percent, show_size},
    words,
};
