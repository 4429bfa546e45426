use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_nvmf::{C2hSuccess, FusedOperations, Target, TransportConfig};
use serde_json::Value;

use super::params::{FCWS, ONCS, read_transport};
use crate::methods::bdev::no_such_device;
use crate::methods::object;
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

/// Tells that the TCP transport has been created: a service of the boot core.
struct Created;

pub(super) fn register(router: &mut Router) {
    router.register_async("nvmf_create_transport", When::Runtime, create);
    router.register("nvmf_get_transports", When::Runtime, get);
}

/// Whether there is a transport to listen with.
pub(super) fn is_created(cx: &Context) -> bool {
    cx.local().service::<Created>().is_some()
}

async fn create(cx: Context, params: Params) -> Outcome {
    let wanted = read_transport(params)?;
    let target = cx.service::<Target>()?;
    if is_created(&cx) {
        return Err(RpcError::errno(errno::EEXIST, "Transport type 'TCP' already exists"));
    }
    cx.local().provide(Rc::new(Created));
    target.set_transport(wanted).await.map_err(|error| {
        RpcError::new(RpcError::INTERNAL, alloc::format!("a core does not answer: {error}"))
    })?;
    cx.remember("nvmf", "transport TCP");
    Ok(Value::Bool(true))
}

fn get(cx: Context, mut params: Params) -> Outcome {
    let trtype: Option<String> = params.optional("trtype")?;
    params.ignore(&["tgt_name"]);
    params.finish()?;
    let created = is_created(&cx);
    if let Some(trtype) = trtype {
        let found = created && trtype.eq_ignore_ascii_case("tcp");
        found.then_some(()).ok_or_else(|| no_such_device(&trtype))?;
    }
    let target = cx.service::<Target>()?;
    let all: Vec<Value> = created.then(|| to_json(&target.transport())).into_iter().collect();
    Ok(Value::Array(all))
}

/// The options in effect. Each command has one buffer of its own, hence an I/O unit as large as
/// the largest I/O, and neither shared buffers nor caches of them.
fn to_json(config: &TransportConfig) -> Value {
    let masked = ONCS.iter().filter(|(_, bit)| config.masked_oncs.intersects(*bit));
    let is_masked = config.fused == FusedOperations::Masked;
    object(&mut [
        ("trtype", "TCP".into()),
        ("max_queue_depth", Value::from(config.queue_size_max)),
        ("max_io_qpairs_per_ctrlr", Value::from(config.io_queues_max)),
        ("in_capsule_data_size", Value::from(config.in_capsule_len)),
        ("max_io_size", Value::from(config.io_len_max)),
        ("io_unit_size", Value::from(config.io_len_max)),
        ("max_aq_depth", Value::from(config.admin_queue_size_max)),
        ("dif_insert_or_strip", false.into()),
        ("zcopy", false.into()),
        ("c2h_success", Value::from(config.c2h_success == C2hSuccess::Always)),
        ("sock_priority", 0.into()),
        ("abort_timeout_sec", Value::from(config.abort_timeout.as_secs())),
        ("min_kato", Value::from(config.kato_min_ms)),
        ("masked_oncs", Value::from(masked.map(|(name, _)| *name).collect::<Vec<_>>())),
        ("masked_fuses", Value::from(is_masked.then_some(FCWS).into_iter().collect::<Vec<_>>())),
    ])
}
