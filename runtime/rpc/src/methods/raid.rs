//! Bdevs over several others.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_bdev::vbdev::raid::{
    self, ChangeError, Level, PRODUCT_NAME, ProcessOptions, Raid, RaidOptions,
};
use basalt_bdev::{Registry, uuid};
use serde_json::{Map, Value};

use super::bdev::{create_error, no_such_device, read_uuid};
use super::vbdev::{create, delete, key, vbdevs};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    router.register("bdev_raid_create", When::Runtime, raid_create);
    router.register("bdev_raid_get_bdevs", When::Runtime, raid_get_bdevs);
    router.register("bdev_raid_add_base_bdev", When::Runtime, raid_add_base_bdev);
    router.register("bdev_raid_remove_base_bdev", When::Runtime, raid_remove_base_bdev);
    router.register("bdev_raid_set_options", When::Any, raid_set_options);
    router.register("bdev_raid_delete", When::Runtime, |cx, mut params| {
        if params.optional("clear_sb")?.unwrap_or(false) {
            return Err(RpcError::errno(errno::EINVAL, "there are no superblocks to be cleared"));
        }
        delete(&cx, params, "name", PRODUCT_NAME)
    });
}

fn raid_create(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    let level: String = params.required("raid_level")?;
    let strip_size_kib: u32 = params.optional("strip_size_kb")?.unwrap_or(0);
    let bases: Vec<String> = params.required("base_bdevs")?;
    let superblock: bool = params.optional("superblock")?.unwrap_or(false);
    let uuid = read_uuid(&mut params)?;
    params.finish()?;
    if superblock {
        let message = "superblocks are not supported: leave 'superblock' out, and keep the \
                       configuration instead";
        return Err(RpcError::errno(errno::EINVAL, message));
    }
    let level = read_level(&level)?;
    let options = RaidOptions { name, level, strip_size_kib, bases, uuid };
    raid::check(&options).map_err(|error| RpcError::errno(errno::EINVAL, error))?;
    let name = options.name.clone();
    create(&cx, raid::recipe(options))?;
    let (raid, registry) = (find(&cx, &name)?, cx.service::<Registry>()?);
    cx.remember_live("bdev", key(PRODUCT_NAME, &name), move |params| {
        params.insert("base_bdevs".into(), raid.bases().into());
        // So that it is the same one, whatever bases it is made of next.
        if let Some(bdev) = registry.get(&raid.options().name) {
            params.insert("uuid".into(), uuid::format(&bdev.info().uuid).into());
        }
    });
    Ok(Value::Bool(true))
}

fn raid_add_base_bdev(cx: Context, mut params: Params) -> Outcome {
    let base: String = params.required("base_bdev")?;
    let name: String = params.required("raid_bdev")?;
    params.finish()?;
    let registry = cx.service::<Registry>()?;
    find(&cx, &name)?.add_base(cx.local(), &registry, &base).map_err(change_error)?;
    Ok(Value::Bool(true))
}

fn raid_remove_base_bdev(cx: Context, mut params: Params) -> Outcome {
    let name: String = params.required("name")?;
    params.finish()?;
    let raids = vbdevs(&cx)?.handles::<Raid>();
    let raid = raids.iter().find(|raid| raid.has_base(&name));
    raid.ok_or_else(|| no_such_device(&name))?.remove_base(&name).map_err(change_error)?;
    Ok(Value::Bool(true))
}

fn raid_set_options(cx: Context, mut params: Params) -> Outcome {
    let window: Option<u32> = params.optional("process_window_size_kb")?;
    let bandwidth: Option<u32> = params.optional("process_max_bandwidth_mb_sec")?;
    params.finish()?;
    let options = ProcessOptions::of(cx.local());
    if let Some(window) = window {
        if !window.is_power_of_two() || window > ProcessOptions::WINDOW_MAX_KIB {
            let message = format!(
                "'process_window_size_kb' is a power of two of at most {}",
                ProcessOptions::WINDOW_MAX_KIB
            );
            return Err(RpcError::errno(errno::EINVAL, message));
        }
        options.window_size_kib.set(window);
    }
    if let Some(bandwidth) = bandwidth {
        options.max_bandwidth_mib.set(bandwidth);
    }
    cx.remember("bdev", "options bdev_raid_set_options");
    Ok(Value::Bool(true))
}

fn find(cx: &Context, name: &str) -> Result<Raid, RpcError> {
    vbdevs(cx)?.handle::<Raid>(name).ok_or_else(|| no_such_device(name))
}

fn change_error(error: ChangeError) -> RpcError {
    match error {
        ChangeError::NotRedundant => RpcError::errno(errno::EINVAL, error),
        ChangeError::NoSuchBase => RpcError::errno(errno::ENODEV, error),
        ChangeError::LastBase => RpcError::errno(errno::EBUSY, error),
        ChangeError::Create(error) => create_error(error),
    }
}

/// SPDK's names, with `raid` or without.
fn read_level(text: &str) -> Result<Level, RpcError> {
    let is_it = |name: &str| name == text || name.strip_prefix("raid") == Some(text);
    let level = Level::ALL.into_iter().find(|(_, name)| is_it(name));
    level.map(|(level, _)| level).ok_or_else(|| {
        let known = Level::ALL.map(|(_, name)| name).join(", ");
        RpcError::errno(errno::EINVAL, format!("'raid_level' is one of {known}, not '{text}'"))
    })
}

fn raid_get_bdevs(cx: Context, mut params: Params) -> Outcome {
    let category: String = params.required("category")?;
    params.finish()?;
    if !["all", "online", "configuring", "offline"].contains(&category.as_str()) {
        let message = format_args!(
            "'category' is one of all, online, configuring, offline, not '{category}'"
        );
        return Err(RpcError::params(message));
    }
    let registry = cx.service::<Registry>()?;
    let raids = vbdevs(&cx)?.handles::<Raid>();
    let shown = raids.iter().map(|raid| raid_to_json(raid, raid.describe(&registry)));
    let matches = |raid: &Value| category == "all" || raid["state"] == *category;
    Ok(shown.filter(matches).collect())
}

/// Its name, then what [`basalt_bdev::Bdev::driver_specific`] says.
fn raid_to_json(raid: &Raid, specific: String) -> Value {
    let mut specific: Value = serde_json::from_str(&specific).unwrap_or_default();
    let mut shown = Map::new();
    shown.insert("name".into(), raid.options().name.clone().into());
    if let Value::Object(members) = specific["raid"].take() {
        shown.extend(members);
    }
    shown.into()
}
