//! Data that can't be answered from: a buggy job spoils ever more of it.

use std::{collections::BTreeSet, fs, rc::Rc};

use anyhow::{Result, bail};

use super::{Driver, Step};
use crate::{
    spec::Subject,
    subject::{NGINX_PAGES, POSTGRES_ITEMS, REDIS_ITEMS, Server, item_key, item_value, page, page_path},
    wire::{Postgres, Redis, Reply, command},
};

/// Redis: items turned into lists; PostgreSQL: quantities that are divided by become 0; nginx: pages are removed.
pub(super) struct Poison {
    server: Rc<Server>,
    share: f64,
    spoilt: BTreeSet<u32>,
    redis: Option<Redis>,
    postgres: Option<Postgres>,
}

impl Poison {
    pub(super) fn new(server: Rc<Server>, share: f64) -> Self {
        Self { server, share, spoilt: BTreeSet::new(), redis: None, postgres: None }
    }

    async fn reach(&mut self, level: f64) -> Result<()> {
        let count = match self.server.subject {
            Subject::Nginx => NGINX_PAGES,
            Subject::Redis => REDIS_ITEMS,
            Subject::Postgres => POSTGRES_ITEMS,
            Subject::Shop => bail!("the sample service's data can't be spoilt"),
        };
        // All over the place, but the same ones every time.
        let spoilt = |number: u32| {
            let place = f64::from(number.wrapping_mul(2_654_435_761)) / f64::from(u32::MAX);
            place < self.share * level
        };
        let wanted: BTreeSet<u32> = (0..count).filter(|n| spoilt(*n)).collect();
        let worse: Vec<u32> = wanted.difference(&self.spoilt).copied().collect();
        let better: Vec<u32> = self.spoilt.difference(&wanted).copied().collect();
        if worse.is_empty() && better.is_empty() {
            return Ok(());
        }
        match self.server.subject {
            Subject::Redis => self.spoil_redis(&worse, &better).await?,
            Subject::Postgres => self.spoil_postgres(&worse, &better).await?,
            Subject::Nginx | Subject::Shop => {
                for number in worse {
                    fs::remove_file(page_path(&self.server.place, number))?;
                }
                for number in better {
                    fs::write(page_path(&self.server.place, number), page(number))?;
                }
            }
        }
        self.spoilt = wanted;
        Ok(())
    }

    async fn spoil_redis(&mut self, worse: &[u32], better: &[u32]) -> Result<()> {
        let redis = match &mut self.redis {
            Some(redis) => redis,
            none => none.insert(Redis::open(self.server.address()).await?),
        };
        let mut wire = Vec::new();
        for number in worse {
            wire.extend(command(&[b"DEL", &item_key(*number)]));
            wire.extend(command(&[b"RPUSH", &item_key(*number), b"?"]));
        }
        for number in better {
            wire.extend(command(&[b"SET", &item_key(*number), &item_value(*number)]));
        }
        redis.send(&wire).await?;
        for _ in 0..2 * worse.len() + better.len() {
            if let Reply::Error(why) = redis.reply().await? {
                bail!("{why}");
            }
        }
        Ok(())
    }

    async fn spoil_postgres(&mut self, worse: &[u32], better: &[u32]) -> Result<()> {
        let postgres = match &mut self.postgres {
            Some(postgres) => postgres,
            none => none.insert(Postgres::open(self.server.address(), "cause").await?),
        };
        for (numbers, value) in [(worse, "0"), (better, "1 + id % 90")] {
            // In bites, so that no statement keeps the others waiting.
            for bite in numbers.chunks(250) {
                let ids: Vec<String> = bite.iter().map(u32::to_string).collect();
                postgres
                    .run(&format!("UPDATE item SET qty = {value} WHERE id IN ({})", ids.join(",")))
                    .await?;
            }
        }
        Ok(())
    }
}

impl Driver for Poison {
    fn set_level(&mut self, level: f64) -> Step<'_> {
        Box::pin(self.reach(level))
    }
}
