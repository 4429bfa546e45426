//! `env_get_mem_stats`: how much memory is in use. Basalt's own method, as SPDK leaves memory to
//! its host:
//!
//! ```text
//! {"heap": {"bytes_total": …, "bytes_free": …},
//!  "dma": [{"core": 0, "bytes_total": …, "bytes_free": …}, …]}
//! ```

use alloc::vec::Vec;

use basalt_env::DmaPool;
use basalt_reactor::Local;
use basalt_rpc::{Context, Outcome, Params, Router, RpcError, When};
use serde_json::{Value, json};

use crate::roll_call;

/// How much there is of an environment's heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heap {
    /// Its size, bytes.
    pub bytes_total: usize,
    /// Not handed out, bytes.
    pub bytes_free: usize,
}

/// Reads the heap's figures; `None` where the heap has no bounds of its own.
pub type HeapStats = fn() -> Option<Heap>;

/// Adds the method. Without figures of the heap its member is `null`.
pub fn register(router: &mut Router, heap: HeapStats) {
    router.register_async("env_get_mem_stats", When::Any, move |cx, params| {
        get_mem_stats(cx, params, heap)
    });
}

/// Logs how much is in use now; `fixed` bytes are neither heap nor DMA memory.
pub async fn report(local: &Local, heap: HeapStats, fixed: usize) {
    let mut dma = 0;
    for core in roll_call::ids(local.cores()) {
        if let Ok(Some((total, free))) = local.call(core, pool_stats).await {
            dma += total - free;
        }
    }
    let heap = heap().map_or(0, |heap| heap.bytes_total - heap.bytes_free);
    log::info!(
        target: "memory",
        "memory in use: {} KiB (image and stacks {}, heap {}, DMA {})",
        (fixed + heap + dma) >> 10,
        fixed >> 10,
        heap >> 10,
        dma >> 10
    );
}

async fn get_mem_stats(cx: Context, params: Params, heap: HeapStats) -> Outcome {
    params.none()?;
    let mut dma = Vec::new();
    for core in roll_call::ids(cx.local().cores()) {
        let stats = cx.local().call(core, pool_stats).await;
        let (total, free) = stats
            .map_err(|error| RpcError::new(RpcError::INTERNAL, alloc::format!("{error}")))?
            .unwrap_or_default();
        dma.push(json!({"core": core.0, "bytes_total": total, "bytes_free": free}));
    }
    let figures =
        |heap: Heap| json!({"bytes_total": heap.bytes_total, "bytes_free": heap.bytes_free});
    let heap = heap().map(figures);
    Ok(json!({"heap": heap, "dma": Value::Array(dma)}))
}

fn pool_stats(local: &Local) -> Option<(usize, usize)> {
    let stats = local.service::<DmaPool>()?.stats();
    Some((stats.bytes_total, stats.bytes_free))
}
