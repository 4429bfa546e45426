//! What has befallen the bdevs, for who asks now and then.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::{Cell, RefCell};

use basalt_bdev::{Event, Registry};
use basalt_reactor::Local;
use serde_json::{Value, json};

use crate::{Context, Outcome, Params, Router, When};

/// How many are kept, as in SPDK; older ones are lost.
const KEPT_MAX: usize = 1024;

/// Bytes of a bdev's name that are kept, as in SPDK.
const NAME_MAX: usize = 255;

const REGISTERED: &str = "bdev_register";
const REMOVED: &str = "bdev_unregister";

pub(super) fn register(router: &mut Router) {
    router.register("notify_get_types", When::Any, |_, params| {
        params.none()?;
        Ok(json!([REGISTERED, REMOVED]))
    });
    router.register("notify_get_notifications", When::Runtime, get_notifications);
}

/// The last notifications, oldest first: a service of the boot core.
#[derive(Default)]
pub(crate) struct Notifications {
    kept: RefCell<VecDeque<(&'static str, String)>>,
    /// How many were lost, which is the number of the oldest that is kept.
    lost: Cell<u64>,
}

impl Notifications {
    /// Takes note of what becomes of the bdevs from now on, and of those that are there.
    pub(crate) fn start(local: &Local) {
        let Some(registry) = local.service::<Registry>() else { return };
        let notifications = Rc::new(Self::default());
        for bdev in registry.list() {
            notifications.add(REGISTERED, &bdev.info().name);
        }
        local.provide(Rc::clone(&notifications));
        registry.subscribe(move |event| match event {
            Event::Registered(bdev) => notifications.add(REGISTERED, &bdev.info().name),
            Event::Removed(bdev) => notifications.add(REMOVED, &bdev.info().name),
            Event::Resized(..) => {}
        });
    }

    fn add(&self, kind: &'static str, name: &str) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() == KEPT_MAX {
            kept.pop_front();
            self.lost.set(self.lost.get() + 1);
        }
        let name = &name[..name.floor_char_boundary(NAME_MAX)];
        kept.push_back((kind, name.into()));
    }
}

fn get_notifications(cx: Context, mut params: Params) -> Outcome {
    let from: u64 = params.optional("id")?.unwrap_or(0);
    let most: u64 = params.optional("max")?.unwrap_or(u64::MAX);
    params.finish()?;
    let notifications = cx.service::<Notifications>()?;
    let kept = notifications.kept.borrow();
    let numbered = (notifications.lost.get()..).zip(kept.iter());
    let wanted = numbered.skip_while(|(id, _)| *id < from);
    let wanted = wanted.take(usize::try_from(most).unwrap_or(usize::MAX));
    Ok(wanted
        .map(|(id, (kind, name))| json!({"type": kind, "ctx": name, "id": id}))
        .collect::<Value>())
}
