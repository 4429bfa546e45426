use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::pin::Pin;
use core::time::Duration;

use basalt_env::Instant;
use basalt_nvmf::Target;
use basalt_reactor::sync::Notify;
use basalt_reactor::{Local, yield_now};
use basalt_rpc::Rpc;
use serde_json::{Value, json};

use crate::snapshot::{self, CONTROLLERS_MAX, Snapshot};
use crate::{openmetrics, state};

/// Who asks within this time of another gets the same text.
const FRESH: Duration = Duration::from_millis(200);

/// How old what a drive says of its health may be before it is asked again.
const HEALTH_PERIOD: Duration = Duration::from_secs(15);
/// How long it may take to say so.
const HEALTH_PATIENCE: Duration = Duration::from_secs(5);

/// How much of an environment's heap there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeapUse {
    /// Its size, bytes.
    pub bytes_total: u64,
    /// Not handed out, bytes.
    pub bytes_free: u64,
}

/// What an environment knows of itself.
#[derive(Clone, Copy, Debug)]
pub struct Environment {
    /// `image` or `hosted`.
    pub name: &'static str,
    /// The time of day when the clock started, in seconds since 1970, if it is known.
    pub started_at: Option<u64>,
    /// Reads the heap's figures; `None` where the heap has no bounds of its own.
    pub heap: fn() -> Option<HeapUse>,
}

/// Texts that are made of a [`Snapshot`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rendering {
    /// OpenMetrics.
    Metrics,
    /// The text format of Prometheus.
    PlainMetrics,
    /// JSON.
    State,
}

impl Rendering {
    /// Its media type.
    pub const fn media(self) -> &'static str {
        match self {
            Self::Metrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PlainMetrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::State => "application/json",
        }
    }
}

/// What a drive says of its health: a log page's numbers by their names.
pub type Health = Rc<Value>;

/// A text, when it was made of what was then so.
type Shelf = RefCell<Option<(Instant, Arc<[u8]>)>>;

/// Makes texts of what everything is and has done: a service of the boot core.
///
/// One is made at a time. Who asks meanwhile waits, and gets the same one if that is what was asked
/// for; so no number of clients makes the core do more than that.
pub struct Collector {
    local: Local,
    environment: Environment,
    /// By [`Rendering`].
    shelves: [Shelf; 3],
    is_busy: Cell<bool>,
    done: Notify,
    health: RefCell<Vec<(String, Health)>>,
    health_asked: Cell<Option<Instant>>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("is_busy", &self.is_busy).finish_non_exhaustive()
    }
}

impl Collector {
    /// Starts it as a service of this core, the boot core.
    pub fn start(local: &Local, environment: Environment) {
        local.provide(Rc::new(Self {
            local: local.clone(),
            environment,
            shelves: Default::default(),
            is_busy: Cell::new(false),
            done: Notify::new(),
            health: RefCell::default(),
            health_asked: Cell::new(None),
        }));
    }

    /// The text, at most 200 ms old when it was asked for. Boxed, to be compiled with this crate.
    pub fn render(
        self: Rc<Self>,
        rendering: Rendering,
    ) -> Pin<Box<dyn Future<Output = Arc<[u8]>>>> {
        Box::pin(async move {
            let asked = self.local.now();
            loop {
                if let Some(text) = self.on_shelf(rendering, asked) {
                    return text;
                }
                if !self.is_busy.replace(true) {
                    break;
                }
                self.done.notified().await;
            }
            let made = self.local.now();
            let text: Arc<[u8]> = self.make(rendering).await.into_bytes().into();
            *self.shelves[rendering as usize].borrow_mut() = Some((made, Arc::clone(&text)));
            self.is_busy.set(false);
            self.done.notify_all();
            text
        })
    }

    fn on_shelf(&self, rendering: Rendering, asked: Instant) -> Option<Arc<[u8]>> {
        let shelf = self.shelves[rendering as usize].borrow();
        let (made, text) = shelf.as_ref()?;
        (asked.since(*made) <= FRESH).then(|| Arc::clone(text))
    }

    async fn make(self: &Rc<Self>, rendering: Rendering) -> String {
        let snapshot = self.gather().await;
        match rendering {
            Rendering::State => state::render(&snapshot).await,
            Rendering::Metrics => openmetrics::render(&snapshot, openmetrics::Form::Open).await,
            Rendering::PlainMetrics => {
                openmetrics::render(&snapshot, openmetrics::Form::Plain).await
            }
        }
    }

    async fn gather(self: &Rc<Self>) -> Snapshot {
        let local = &self.local;
        let cores = snapshot::cores(local).await;
        let (bdevs, bdevs_count) = snapshot::bdevs(local).await;
        let target = local.service::<Target>();
        let (subsystems, subsystems_count) =
            target.as_ref().map_or_else(|| (Vec::new(), 0), |target| snapshot::subsystems(target));
        let mut controllers = target.map_or_else(Vec::new, |target| target.controllers());
        let controllers_count = controllers.len();
        controllers.truncate(CONTROLLERS_MAX);
        let shown = bdevs.len() + subsystems.len() + controllers.len();
        let count = bdevs_count + subsystems_count + controllers_count;
        let drives = snapshot::drives(local);
        self.renew_health(&drives.iter().map(|drive| drive.name.clone()).collect::<Vec<_>>());
        let health = |name: &str| {
            let known = self.health.borrow();
            known.iter().find(|(other, _)| other == name).map(|(_, health)| Rc::clone(health))
        };
        let drives = drives.into_iter().map(|drive| {
            let health = health(&drive.name);
            (drive, health)
        });
        let now = local.now();
        Snapshot {
            now_ns: now.as_ns(),
            unix_s: self.environment.started_at.map(|start| start + now.as_us() / 1_000_000),
            environment: self.environment.name,
            heap: (self.environment.heap)(),
            cores,
            bdevs,
            drives: drives.collect(),
            subsystems,
            controllers,
            interfaces: snapshot::interfaces(local),
            left_out: count.saturating_sub(shown) as u64,
        }
    }

    /// Asks the drives how they are, in a task of its own, unless they were asked of late. What they
    /// say is for the next to ask.
    fn renew_health(self: &Rc<Self>, drives: &[String]) {
        let now = self.local.now();
        let is_fresh = |asked: Instant| now.since(asked) < HEALTH_PERIOD;
        if drives.is_empty() || self.health_asked.get().is_some_and(is_fresh) {
            return;
        }
        let Some(rpc) = self.local.service::<Rpc>() else { return };
        self.health_asked.set(Some(now));
        let (collector, drives) = (Rc::clone(self), drives.to_vec());
        self.local.spawn("web_health", async move {
            let mut all = Vec::new();
            for name in drives {
                let params = Some(json!({"name": name}));
                let asked = rpc.call_at_boot("bdev_nvme_get_controller_health_info", params);
                let told = collector.local.timeout(HEALTH_PATIENCE, asked).await;
                if let Ok(Ok(health)) = told {
                    all.push((name, Rc::new(health)));
                }
                // With many drives that do not answer it takes longer than the period.
                collector.health_asked.set(Some(collector.local.now()));
            }
            *collector.health.borrow_mut() = all;
        });
    }
}

/// Does something to each of `count` things, a few at a time, as the core has other work.
pub async fn each(count: usize, mut act: impl FnMut(usize)) {
    const AT_ONCE: usize = 4;
    for at in 0..count {
        act(at);
        if at % AT_ONCE == AT_ONCE - 1 {
            yield_now().await;
        }
    }
}
