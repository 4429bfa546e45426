use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::time::Duration;

use basalt_env::{CoreId, Instant};
use basalt_reactor::sync::Notify;
use basalt_reactor::{Local, yield_now};
use basalt_rpc::{Finding, Found, Question, Rpc, ask};
use serde_json::{Value, json};

use crate::json::Json;
use crate::lines::Lines;
use crate::openmetrics::{Form, Metrics};
use crate::snapshot::{self, CoreView, Snapshot};
use crate::state::State;

/// Who asks within this time of another gets the same text.
const FRESH: Duration = Duration::from_millis(200);

/// How long a core may take to answer.
const CORE_PATIENCE: Duration = Duration::from_secs(1);

/// Parts of a text that are written at once: the core has other work.
const PARTS_AT_ONCE: usize = 4;

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
    /// The most that was ever handed out at once, bytes.
    pub bytes_peak: u64,
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
    /// The state in JSON.
    State,
    /// The log from that line on, in JSON.
    Log(u64),
}

impl Rendering {
    /// Its media type.
    pub const fn media(self) -> &'static str {
        match self {
            Self::Metrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::PlainMetrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::State | Self::Log(_) => "application/json",
        }
    }

    /// Where the last one is kept, if it is.
    const fn shelf(self) -> Option<usize> {
        match self {
            Self::Metrics => Some(0),
            Self::PlainMetrics => Some(1),
            Self::State => Some(2),
            Self::Log(_) => None,
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
    /// By [`Rendering::shelf`].
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

    /// The text, as an `Arc<[u8]>`, at most 200 ms old when it was asked for.
    pub fn render(self: Rc<Self>, rendering: Rendering) -> Finding {
        Box::pin(async move {
            let asked = self.local.now();
            loop {
                if let Some(text) = self.on_shelf(rendering, asked) {
                    return Box::new(text) as Found;
                }
                if !self.is_busy.replace(true) {
                    break;
                }
                self.done.notified().await;
            }
            let made = self.local.now();
            let mut work = Work::new(rendering);
            for core in self.cores_to_ask(rendering) {
                let question: Question = Box::new(snapshot::look);
                let asked = ask(&self.local, core, question);
                if let Ok(Ok(found)) = self.local.timeout(CORE_PATIENCE, asked).await {
                    work.add_core(found);
                }
            }
            while self.go_on(&mut work) {
                yield_now().await;
            }
            Box::new(self.put_on_shelf(rendering, made, work)) as Found
        })
    }

    fn on_shelf(&self, rendering: Rendering, asked: Instant) -> Option<Arc<[u8]>> {
        let shelf = self.shelves.get(rendering.shelf()?)?.borrow();
        let (made, text) = shelf.as_ref()?;
        (asked.since(*made) <= FRESH).then(|| Arc::clone(text))
    }

    #[inline(never)]
    fn put_on_shelf(&self, rendering: Rendering, made: Instant, work: Work) -> Arc<[u8]> {
        let text: Arc<[u8]> = work.finish().into_bytes().into();
        if let Some(shelf) = rendering.shelf().and_then(|at| self.shelves.get(at)) {
            *shelf.borrow_mut() = Some((made, Arc::clone(&text)));
        }
        self.is_busy.set(false);
        self.done.notify_all();
        text
    }

    /// The cores that know something of it.
    fn cores_to_ask(&self, rendering: Rendering) -> impl Iterator<Item = CoreId> + use<> {
        let is_log = matches!(rendering, Rendering::Log(_));
        (0..if is_log { 0 } else { self.local.cores() as u16 }).map(CoreId)
    }

    /// Does a part of the work; says whether there is more.
    #[inline(never)]
    fn go_on(self: &Rc<Self>, work: &mut Work) -> bool {
        if let Text::Log(json, lines) = &mut work.text {
            return lines.step(json);
        }
        let snapshot = work.snapshot.get_or_insert_with(|| {
            let mut snapshot = Snapshot::new(&self.local, &self.environment);
            self.add_health(&mut snapshot);
            snapshot.cores = core::mem::take(&mut work.cores);
            Box::new(snapshot)
        });
        if snapshot.look_at_bdev(&self.local) {
            return true;
        }
        for _ in 0..PARTS_AT_ONCE {
            let has_more = match &mut work.text {
                Text::State(json, state) => state.step(json, snapshot),
                Text::Metrics(metrics) => metrics.step(snapshot),
                Text::Log(..) => false,
            };
            if !has_more {
                return false;
            }
        }
        true
    }

    fn add_health(self: &Rc<Self>, snapshot: &mut Snapshot) {
        let known = self.health.borrow();
        for (drive, health) in &mut snapshot.drives {
            let told = known.iter().find(|(name, _)| *name == drive.name);
            *health = told.map(|(_, told)| Rc::clone(told));
        }
        let names = snapshot.drives.iter().map(|(drive, _)| drive.name.clone());
        self.renew_health(names.collect());
    }

    /// Asks the drives how they are, in a task of its own, unless they were asked of late. What
    /// they say is for the next to ask.
    #[inline(never)]
    fn renew_health(self: &Rc<Self>, drives: Vec<String>) {
        let now = self.local.now();
        let is_fresh = |asked: Instant| now.since(asked) < HEALTH_PERIOD;
        if drives.is_empty() || self.health_asked.get().is_some_and(is_fresh) {
            return;
        }
        let Some(rpc) = self.local.service::<Rpc>() else { return };
        self.health_asked.set(Some(now));
        let collector = Rc::clone(self);
        self.local.spawn_background("web_health", async move {
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

/// What is made of what.
enum Text {
    State(Json, State),
    Metrics(Metrics),
    Log(Json, Lines),
}

/// A text that is being made.
struct Work {
    cores: Vec<CoreView>,
    /// Once all cores have answered.
    snapshot: Option<Box<Snapshot>>,
    text: Text,
}

impl Work {
    fn new(rendering: Rendering) -> Self {
        let mut json = Json::default();
        let text = match rendering {
            Rendering::State => Text::State(json, State::default()),
            Rendering::Metrics => Text::Metrics(Metrics::new(Form::Open)),
            Rendering::PlainMetrics => Text::Metrics(Metrics::new(Form::Plain)),
            Rendering::Log(since) => {
                Lines::begin(&mut json);
                Text::Log(json, Lines::new(since))
            }
        };
        Self { cores: Vec::new(), snapshot: None, text }
    }

    #[inline(never)]
    fn add_core(&mut self, found: Found) {
        self.cores.extend(found.downcast().ok().map(|view: Box<CoreView>| *view));
    }

    fn finish(self) -> String {
        match self.text {
            Text::State(json, _) | Text::Log(json, _) => json.finish(),
            Text::Metrics(metrics) => metrics.finish(),
        }
    }
}
