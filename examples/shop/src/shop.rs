use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{Args, Kind, fault::Faults, inventory::InventoryClient, metrics::Metrics};

/// How many items are sold; a number in a path is taken modulo this.
pub(crate) const ITEMS: u64 = 2_000;
/// Carts kept; beyond that the oldest is forgotten.
const MAX_CARTS: usize = 10_000;
const MAX_CART_ITEMS: usize = 100;
/// Size of an item's description, so that an answer is about 1 KiB.
const DESCRIPTION_BYTES: usize = 900;

/// All that a process of the sample service keeps.
pub(crate) struct Shop {
    pub(crate) kind: Kind,
    pub(crate) zone: String,
    pub(crate) token: Option<String>,
    pub(crate) base_delay: Duration,
    pub(crate) inventory: Option<InventoryClient>,
    catalogue: Vec<Arc<str>>,
    executed: File,
    inner: Mutex<Inner>,
}

/// What changes. Never locked over an await.
#[derive(Default)]
struct Inner {
    carts: HashMap<String, Vec<u64>>,
    cart_order: VecDeque<String>,
    faults: Faults,
    metrics: Metrics,
}

impl Shop {
    /// Loads the catalogue and opens the log of executed requests.
    pub(crate) fn open(args: Args) -> Result<Self, String> {
        let executed = open_log(&args.data)
            .map_err(|e| format!("the data directory {} can't be used: {e}", args.data.display()))?;
        let catalogue = match args.kind {
            Kind::Shop => (0..ITEMS).map(describe).collect(),
            Kind::Inventory => Vec::new(),
        };
        Ok(Self {
            kind: args.kind,
            zone: args.zone,
            token: args.control_token,
            base_delay: args.base_delay,
            inventory: args.inventory.map(InventoryClient::new),
            catalogue,
            executed,
            inner: Mutex::default(),
        })
    }

    /// Writes down that a request begins to be executed, before anything of it is done: one line, `id method`. A
    /// single write to a file opened for appending keeps the lines of concurrent requests apart.
    pub(crate) fn log_execution(&self, id: &str, method: &str) -> Result<(), String> {
        (&self.executed)
            .write_all(format!("{id} {method}\n").as_bytes())
            .map_err(|e| format!("executed.log can't be written: {e}"))
    }

    pub(crate) fn item(&self, sku: u64, stock: u64) -> Bytes {
        let description = self.catalogue.get(sku as usize).map_or("", |text| text);
        Bytes::from(format!(
            "{{\"item\":{sku},\"stock\":{stock},\"zone\":{:?},\"description\":\"{description}\"}}",
            self.zone
        ))
    }

    /// Puts an item into a cart and tells how many the cart holds.
    pub(crate) fn add_to_cart(&self, user: &str, item: u64) -> usize {
        self.with(|inner| {
            if !inner.carts.contains_key(user) {
                if inner.carts.len() >= MAX_CARTS
                    && let Some(oldest) = inner.cart_order.pop_front()
                {
                    inner.carts.remove(&oldest);
                }
                inner.cart_order.push_back(user.to_owned());
            }
            let cart = inner.carts.entry(user.to_owned()).or_default();
            if cart.len() < MAX_CART_ITEMS {
                cart.push(item);
            }
            cart.len()
        })
    }

    pub(crate) fn metrics<R>(&self, f: impl FnOnce(&mut Metrics) -> R) -> R {
        self.with(|inner| f(&mut inner.metrics))
    }

    pub(crate) fn faults<R>(&self, f: impl FnOnce(&mut Faults) -> R) -> R {
        self.with(|inner| f(&mut inner.faults))
    }

    pub(crate) fn metrics_text(&self) -> String {
        let cache_bytes: usize = self.catalogue.iter().map(|text| text.len()).sum();
        self.with(|inner| {
            let state = inner.faults.state(Instant::now());
            inner.metrics.text(&[
                // What a cache that never forgets would report: the leak of the demo shows up here.
                ("shop_cache_bytes", cache_bytes as f64 + state.leaked_bytes as f64),
                ("shop_carts", inner.carts.len() as f64),
            ])
        })
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn open_log(data: &Path) -> std::io::Result<File> {
    std::fs::create_dir_all(data)?;
    File::options().append(true).create(true).open(data.join("executed.log"))
}

fn describe(sku: u64) -> Arc<str> {
    const WORDS: [&str; 8] = ["sturdy", "light", "blue", "folding", "warm", "useful", "small", "oaken"];
    let mut text = format!("Article {sku}:");
    let mut n = sku;
    while text.len() < DESCRIPTION_BYTES {
        n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(' ');
        text.push_str(WORDS[(n >> 33) as usize % WORDS.len()]);
    }
    text.into()
}
