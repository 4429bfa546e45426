//! An application of one's own: reads all of a bdev while it is served, so that blocks which cannot
//! be read any more are found before somebody needs them.
//!
//! `scrub_start {"name": "Nvme0n1", "mb_per_sec": 100}` begins, `scrub_get_progress` tells.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::num::{NonZeroU16, NonZeroU64};
use core::time::Duration;

use basalt_bdev::{Access, AsyncChannel, IoError, Registry, SgList};
use basalt_env::DmaPool;
use basalt_reactor::Local;
use basalt_rpc::{Context, Outcome, Params, Router, RpcError, When, errno};
use serde_json::{Value, json};

/// Blocks read at once; where that fails, one by one.
const STEP: u64 = 128;

/// How far the scrubbing of a bdev is, in blocks.
#[derive(Clone, Copy)]
struct Progress {
    checked: u64,
    bad: u64,
    running: bool,
}

/// By the bdev's name.
type Scrubs = Rc<RefCell<BTreeMap<String, Progress>>>;

basalt_image::application!(start);

fn start(_: &Local, router: &mut Router) {
    let scrubs = Scrubs::default();
    let shown = Rc::clone(&scrubs);
    router.register("scrub_start", When::Runtime, move |cx, params| begin(&cx, params, &scrubs));
    router.register("scrub_get_progress", When::Any, move |_, params| show(params, &shown));
}

fn begin(cx: &Context, mut params: Params, scrubs: &Scrubs) -> Outcome {
    let name: String = params.required("name")?;
    let rate = params.optional::<NonZeroU64>("mb_per_sec")?.map_or(100, NonZeroU64::get);
    params.finish()?;
    if scrubs.borrow().get(&name).is_some_and(|progress| progress.running) {
        return Err(RpcError::errno(errno::EBUSY, "it is being scrubbed already"));
    }
    let (local, refuse) = (cx.local().clone(), |error| RpcError::errno(errno::ENODEV, error));
    let disk = cx.service::<Registry>()?.open(&name, Access::ReadOnly).map_err(refuse)?;
    let channel = disk.channel(&local).map_err(refuse)?;
    let channel = AsyncChannel::new(&local, channel, NonZeroU16::MIN, "scrub").map_err(refuse)?;
    let (blocks, size) = (disk.info().num_blocks.get(), u64::from(disk.info().block_size));
    let (pool, scrubs) = (cx.service::<DmaPool>()?, Rc::clone(scrubs));
    let mut progress = Progress { checked: 0, bad: 0, running: true };
    scrubs.borrow_mut().insert(name.clone(), progress);
    cx.local().spawn("scrub", async move {
        while progress.running {
            let count = STEP.min(blocks - progress.checked);
            local.sleep(Duration::from_micros(count * size / rate)).await;
            let bad = bad_blocks(&channel, &pool, progress.checked, count, size).await;
            progress.checked += bad.map_or(0, |_| count);
            progress.bad += bad.unwrap_or(0);
            progress.running = bad.is_some() && progress.checked < blocks;
            scrubs.borrow_mut().insert(name.clone(), progress);
        }
        log::info!(target: "scrub", "{name}: {} of {} are bad", progress.bad, progress.checked);
    });
    Ok(Value::Bool(true))
}

/// How many of `n` blocks cannot be read; nothing if the bdev is gone or memory is short.
async fn bad_blocks(on: &AsyncChannel, pool: &DmaPool, at: u64, n: u64, size: u64) -> Option<u64> {
    let buffer = pool.alloc((n * size) as usize).ok()?;
    if on.read(at, n as u32, SgList::One(buffer)).await.1.is_ok() {
        return Some(0);
    }
    let mut bad = 0;
    for lba in at..at + n {
        match on.read(lba, 1, SgList::One(pool.alloc(size as usize).ok()?)).await.1 {
            Err(IoError::Removed) => return None,
            status => bad += u64::from(status.is_err()),
        }
    }
    Some(bad)
}

fn show(params: Params, scrubs: &Scrubs) -> Outcome {
    params.none()?;
    let row = |(name, at): (&String, &Progress)| {
        let Progress { checked, bad, running } = at;
        json!({"name": name, "checked": checked, "bad": bad, "running": running})
    };
    Ok(scrubs.borrow().iter().map(row).collect())
}
