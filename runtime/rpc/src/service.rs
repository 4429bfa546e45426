use alloc::boxed::Box;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::any::type_name;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::{self, Poll};

use basalt_bdev::{Event, Registry, uuid};
use basalt_reactor::{Local, yield_now};
use serde_json::{Map, Value};

use crate::gate::{self, Door, Entrance};
use crate::message::{BadRequest, Id, Message, Request, reply, reply_in_parts};
use crate::methods::{Notifications, WAIT_KEY, nvme_local_key};
use crate::params::{Report, Wrong};
use crate::saved::{Call, Renew};
use crate::{Params, Router, RpcError, Saved, State};

/// Bytes of replies after which the rest of a batch is refused: a small request must not fill the
/// memory by asking for the same long list a thousand times.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The same for all batches that are being carried out together.
const BATCHES_BYTES_MAX: usize = 4 * BATCH_BYTES_MAX;

type KillHook = Box<dyn Fn(&str)>;

/// The control plane: the methods, the state they run in and the configuration they have built.
///
/// One per machine, a service of [`basalt_env::CoreId::BOOT`]. Connections on any core hand their
/// messages to [`Self::answer`] there.
pub struct Rpc {
    local: Local,
    router: Router,
    state: Cell<State>,
    saved: RefCell<Saved>,
    /// By [`Door`].
    entrances: RefCell<[Entrance; 2]>,
    /// Whether the boot is over, and clients may come.
    is_open: Cell<bool>,
    /// Bytes of the replies of batches that are being carried out.
    batched: Cell<usize>,
    on_kill: RefCell<Option<KillHook>>,
}

impl fmt::Debug for Rpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rpc").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Rpc {
    /// A control plane with these methods, registered as a service of this core, which has the
    /// bdev registry already if there is to be one. One that is started in [`State::Startup`] has
    /// a boot before it, which ends with [`Self::open`].
    pub fn start(local: &Local, router: Router, state: State) -> Rc<Self> {
        let rpc = Rc::new(Self {
            local: local.clone(),
            router,
            state: Cell::new(state),
            saved: RefCell::default(),
            entrances: RefCell::default(),
            is_open: Cell::new(state == State::Runtime),
            batched: Cell::new(0),
            on_kill: RefCell::new(None),
        });
        local.provide(Rc::clone(&rpc));
        rpc.follow_removals();
        Notifications::start(local);
        rpc
    }

    /// A bdev that is gone is not to be saved, whoever removed it.
    fn follow_removals(self: &Rc<Self>) {
        let Some(registry) = self.local.service::<Registry>() else { return };
        let rpc = Rc::downgrade(self);
        registry.subscribe(move |event| {
            let (Event::Removed(bdev), Some(rpc)) = (event, rpc.upgrade()) else { return };
            let info = bdev.info();
            rpc.saved.borrow_mut().forget_bdev(&info.name, &uuid::format(&info.uuid));
        });
    }

    /// What `spdk_kill_instance` does with the signal's name, after it has been answered.
    pub fn on_kill(&self, hook: impl Fn(&str) + 'static) {
        *self.on_kill.borrow_mut() = Some(Box::new(hook));
    }

    /// The methods.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The present state.
    pub fn state(&self) -> State {
        self.state.get()
    }

    /// Enters [`State::Runtime`].
    pub fn set_running(&self) {
        self.state.set(State::Runtime);
    }

    /// Whether it was configured to wait for `framework_start_init` after the boot.
    pub fn waits(&self) -> bool {
        self.saved.borrow().has("rpc", WAIT_KEY)
    }

    /// The boot is over: everything runs, unless it [waits](Self::waits), and clients may come as
    /// far as they were let in.
    pub async fn open(&self) {
        if self.waits() {
            log::info!(target: "rpc", "waiting for framework_start_init, as was asked for");
        } else {
            self.set_running();
        }
        self.is_open.set(true);
        for door in Door::ALL {
            let entrance = self.entrance(door);
            if let Err(reason) = gate::set_everywhere(&self.local, door, &entrance).await {
                log::error!(target: "rpc", "{reason}: it takes no calls");
            }
        }
    }

    /// Who may come in by a door.
    pub fn entrance(&self, door: Door) -> Entrance {
        self.entrances.borrow()[door as usize].clone()
    }

    /// Says who may come in by a door, from the end of the boot on. Connections of others end once
    /// they have their reply.
    pub(crate) async fn set_entrance(&self, door: Door, entrance: Entrance) -> Result<(), String> {
        self.entrances.borrow_mut()[door as usize] = entrance.clone();
        if self.is_open.get() {
            gate::set_everywhere(&self.local, door, &entrance).await?;
        }
        Ok(())
    }

    /// An NVMe controller of this machine was taken out: no call that named it is to be saved.
    pub fn forget_nvme_controller(&self, name: &str) {
        self.saved.borrow_mut().forget("bdev", &nvme_local_key(name));
    }

    /// Carries out one call as if it had come over the wire.
    pub fn call(
        self: &Rc<Self>,
        method: &str,
        params: Option<Value>,
    ) -> impl Future<Output = crate::Outcome> {
        self.call_in(Some(self.state()), method, params)
    }

    /// Carries out a call of the boot, which may use the methods of every state.
    pub fn call_at_boot(
        self: &Rc<Self>,
        method: &str,
        params: Option<Value>,
    ) -> impl Future<Output = crate::Outcome> {
        self.call_in(None, method, params)
    }

    async fn call_in(
        self: &Rc<Self>,
        state: Option<State>,
        method: &str,
        params: Option<Value>,
    ) -> crate::Outcome {
        let cx = self.context(method, params.as_ref());
        self.router.start(method, state, cx, Params::new(params)?)?.await
    }

    fn context(self: &Rc<Self>, method: &str, params: Option<&Value>) -> Context {
        Context {
            local: self.local.clone(),
            rpc: Rc::clone(self),
            method: Rc::from(method),
            params: Rc::new(params.and_then(Value::as_object).cloned()),
        }
    }

    /// Has a method read its parameters and do no more: all that is wrong with them.
    pub(crate) fn read_params(self: &Rc<Self>, method: &str, params: Option<Value>) -> Report {
        let cx = self.context(method, params.as_ref());
        let has = |name: &str| params.as_ref().is_some_and(|params| params.get(name).is_some());
        let read = match Params::new(params.clone()) {
            Ok(params) => params,
            Err(error) => {
                let mut report = Report::default();
                report.wrong.push(Wrong::from_answer(&error, has));
                return report;
            }
        };
        let report = Rc::default();
        let started = self.router.start(method, None, cx, read.only_read(&report));
        // It is over before it has to wait for anything.
        let polled = started.map(|mut pending| {
            pending.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop()))
        });
        let mut report = report.take();
        if let (Ok(Poll::Ready(Err(error))), false) = (polled, report.is_complete)
            && report.wrong.is_empty()
        {
            report.wrong.push(Wrong::from_answer(&error, has));
        }
        report
    }

    /// Answers one framed message with text on one line; `None` if it held only notifications.
    pub async fn answer(self: &Rc<Self>, message: Value) -> Option<Vec<u8>> {
        match Message::from_value(message) {
            Message::Single(call) => self.answer_one(call).await,
            Message::Batch(calls) => self.answer_batch(calls).await,
        }
    }

    async fn answer_batch(
        self: &Rc<Self>,
        calls: Vec<Result<Request, BadRequest>>,
    ) -> Option<Vec<u8>> {
        let mut batch = Batch { total: &self.batched, answer: Vec::new() };
        for mut call in calls {
            if batch.is_too_long() {
                call = call.and_then(too_much);
            }
            if let Some(reply) = self.answer_one(call).await {
                batch.add(&reply);
            }
            // Many calls together may take long, and the core has other work.
            yield_now().await;
        }
        let mut answer = batch.finish();
        if answer.is_empty() {
            return None;
        }
        answer.push(b']');
        Some(answer)
    }

    async fn answer_one(self: &Rc<Self>, call: Result<Request, BadRequest>) -> Option<Vec<u8>> {
        let request = match call {
            Ok(request) => request,
            Err(BadRequest { id, error }) => return Some(reply(id, Err(error))),
        };
        let outcome = self.call(&request.method, request.params).await;
        if let Err(error) = &outcome {
            log::debug!(target: "rpc", "{} failed: {error}", request.method);
        }
        match request.id {
            Id::Call(id) => Some(reply_in_parts(id, outcome).await),
            Id::Notification => None,
        }
    }

    pub(crate) fn kill(&self, signal: &str) -> bool {
        match &*self.on_kill.borrow() {
            Some(hook) => {
                hook(signal);
                true
            }
            None => false,
        }
    }

    pub(crate) fn has_kill_hook(&self) -> bool {
        self.on_kill.borrow().is_some()
    }

    /// The calls that would rebuild `subsystem` as it is now.
    pub fn saved(&self, subsystem: &str) -> Vec<Value> {
        self.saved.borrow().of(subsystem)
    }

    /// One of them, counted from 0.
    pub(crate) fn saved_call(&self, subsystem: &str, index: usize) -> Option<Value> {
        self.saved.borrow().nth(subsystem, index)
    }

    /// How often any of them have changed.
    pub(crate) fn saved_changes(&self) -> u64 {
        self.saved.borrow().changes()
    }
}

/// The answer to a batch as far as it has got.
struct Batch<'a> {
    /// That of all batches together, bytes.
    total: &'a Cell<usize>,
    answer: Vec<u8>,
}

impl Batch<'_> {
    fn is_too_long(&self) -> bool {
        self.answer.len() > BATCH_BYTES_MAX || self.total.get() > BATCHES_BYTES_MAX
    }

    fn add(&mut self, reply: &[u8]) {
        self.answer.push(if self.answer.is_empty() { b'[' } else { b',' });
        self.answer.extend_from_slice(reply);
        self.total.set(self.total.get() + reply.len() + 1);
    }

    /// The answer, which counts no longer.
    fn finish(mut self) -> Vec<u8> {
        self.uncount();
        core::mem::take(&mut self.answer)
    }

    fn uncount(&self) {
        self.total.set(self.total.get().saturating_sub(self.answer.len()));
    }
}

impl Drop for Batch<'_> {
    /// Nothing of it counts, however it ends.
    fn drop(&mut self) {
        self.uncount();
    }
}

/// A call of a batch that has been answered at such length that no more of it is carried out.
fn too_much(request: Request) -> Result<Request, BadRequest> {
    let id = match request.id {
        Id::Call(id) => id,
        Id::Notification => Value::Null,
    };
    let message = "Not carried out: the answers to this batch are too long";
    Err(BadRequest { id, error: RpcError::new(RpcError::INTERNAL, message) })
}

/// What a handler works with: its core, the services there, and the call it answers.
#[derive(Clone, Debug)]
pub struct Context {
    local: Local,
    rpc: Rc<Rpc>,
    method: Rc<str>,
    params: Rc<Option<Map<String, Value>>>,
}

impl Context {
    /// The boot core's reactor.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// The control plane.
    pub fn rpc(&self) -> &Rc<Rpc> {
        &self.rpc
    }

    /// The name under which the method was called.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// A copy of the parameters as they came.
    pub fn params(&self) -> Map<String, Value> {
        (*self.params).clone().unwrap_or_default()
    }

    /// The parameters of the call that is remembered under `key`; none if there is no such call.
    pub(crate) fn kept(&self, subsystem: &str, key: &str) -> Map<String, Value> {
        self.rpc.saved.borrow().params(subsystem, key)
    }

    /// Whether a call is remembered under `key`.
    pub(crate) fn has_kept(&self, subsystem: &str, key: &str) -> bool {
        self.rpc.saved.borrow().has(subsystem, key)
    }

    /// A service of the boot core, such as the bdev registry or the NVMe-oF target.
    pub fn service<T: 'static>(&self) -> Result<Rc<T>, RpcError> {
        self.local.service::<T>().ok_or_else(|| {
            let message = format!("this machine does not run {}", type_name::<T>());
            RpcError::new(RpcError::INTERNAL, message)
        })
    }

    /// Remembers this call as the one that made `key`, for `framework_get_config`.
    pub fn remember(&self, subsystem: &'static str, key: impl Into<String>) {
        self.remember_with(subsystem, key, []);
    }

    /// Remembers this call with some parameters filled in, such as a name that was chosen here.
    pub fn remember_with<const N: usize>(
        &self,
        subsystem: &'static str,
        key: impl Into<String>,
        chosen: [(&str, Value); N],
    ) {
        let mut params = (*self.params).clone();
        for (name, value) in chosen {
            params.get_or_insert_default().insert(name.into(), value);
        }
        self.file(subsystem, key.into(), params, None);
    }

    /// Remembers this call with parameters that `renew` brings up to date whenever they are asked
    /// for.
    pub fn remember_live(
        &self,
        subsystem: &'static str,
        key: impl Into<String>,
        renew: impl Fn(&mut Map<String, Value>) + 'static,
    ) {
        let params = (*self.params).clone();
        self.file(subsystem, key.into(), params, Some(Box::new(renew)));
    }

    /// Remembers this call with other parameters than it came with.
    pub fn remember_as(
        &self,
        subsystem: &'static str,
        key: impl Into<String>,
        params: Map<String, Value>,
    ) {
        self.file(subsystem, key.into(), Some(params), None);
    }

    fn file(
        &self,
        subsystem: &'static str,
        key: String,
        params: Option<Map<String, Value>>,
        renew: Option<Renew>,
    ) {
        let call = Call { method: String::from(self.method()), params, renew };
        self.rpc.saved.borrow_mut().put(subsystem, key, call);
    }

    /// Forgets the calls that made `key` and everything below it.
    pub fn forget(&self, subsystem: &'static str, key: &str) {
        self.rpc.saved.borrow_mut().forget(subsystem, key);
    }
}
