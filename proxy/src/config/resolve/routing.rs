//! The bridge of `[routing]`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use pgherd_protocol::statement::FunctionRules;

use super::super::{ReadPolicy, Routing, routing, value};
use super::{Bridge, DAY};

const SLOW_START: RangeInclusive<Duration> = Duration::ZERO..=DAY;

impl Bridge<'_> {
    // As in the other functions, all keys are read before the first `?`.

    pub(super) fn routing(&mut self) -> Option<Arc<Routing>> {
        let reads = self.get("routing.reads", value::choice);
        let consistency = self.get("routing.consistency", value::choice);
        let max_lag = self.get("routing.max_lag", routing::max_lag);
        let location = self.get("routing.location", value::text);
        let slow_start = self.get("routing.slow_start", value::duration(SLOW_START));
        let latency_aware = self.get("routing.latency_aware", value::boolean);
        let read_functions = self.get("routing.read_functions", value::functions).unwrap_or_default();
        let write_functions = self.get("routing.write_functions", value::functions).unwrap_or_default();
        let functions = Arc::new(FunctionRules { reads: read_functions, writes: write_functions });
        let overrides = self.read("routing.override", routing::overrides).map(|(_, overrides)| overrides);
        let policy = ReadPolicy { reads: reads?, consistency: consistency?, max_lag: max_lag?, prefer: None };
        let overrides = overrides.unwrap_or_default();
        let (slow_start, latency_aware) = (slow_start?, latency_aware?);
        Some(Arc::new(Routing { policy, location, slow_start, latency_aware, functions, overrides }))
    }
}
