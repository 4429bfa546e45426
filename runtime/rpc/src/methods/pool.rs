//! The memory for I/O: SPDK's pools of buffers, of which there is one on each core here.

use alloc::string::String;

use basalt_env::{CoreId, DmaPool, DmaTaken};
use serde_json::{Value, json};

use super::thread::silent;
use crate::{Context, Outcome, Params, Router, When};

pub(super) fn register(router: &mut Router) {
    router.register_async("iobuf_get_stats", When::Runtime, get_stats);
    router.register("env_dpdk_get_mem_stats", When::Runtime, |_, params| {
        params.none()?;
        // There is no file to write them to: see `env_get_mem_stats`.
        Ok(json!({"filename": String::new()}))
    });
}

/// As of one module that has all buffers, which each core keeps for itself.
async fn get_stats(cx: Context, params: Params) -> Outcome {
    params.none()?;
    let (mut small, mut large) = (DmaTaken::default(), DmaTaken::default());
    for core in (0..cx.local().cores() as u16).map(CoreId) {
        let taken =
            cx.local().call(core, |local| local.service::<DmaPool>().map(|pool| pool.taken()));
        if let Some([more_small, more_large]) = taken.await.map_err(|error| silent(core, error))? {
            add(&mut small, more_small);
            add(&mut large, more_large);
        }
    }
    let module =
        json!({"module": "dma", "small_pool": to_json(small), "large_pool": to_json(large)});
    Ok(Value::Array([module].into()))
}

fn add(sum: &mut DmaTaken, more: DmaTaken) {
    sum.cache += more.cache;
    sum.main += more.main;
    sum.refused += more.refused;
}

fn to_json(taken: DmaTaken) -> Value {
    json!({"cache": taken.cache, "main": taken.main, "retry": taken.refused})
}
