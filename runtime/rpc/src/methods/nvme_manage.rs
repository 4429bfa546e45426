//! What is administered of NVMe controllers: formats, namespaces, firmware, self-tests, sanitizing.
//! SPDK has no methods for most of this; these have names of our own.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use basalt_bdev::{NvmeOrder, NvmeReport, NvmeSubject};
use basalt_nvme_spec::NSID_ALL;
use basalt_nvme_spec::manage::{
    BlockFormat, Deallocation, FirmwareAction, FormatSettings, FormatTarget, Inverted,
    MetadataPlace, OnFailure, OverwritePasses, ProtectionPlace, Sanitize, SanitizeAction,
    SecureErase, SelfTest,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::{Value, json};

use super::bdev::no_such_device;
use super::nvme::{NvmeControl, NvmeRefusal};
use super::nvme_report::{activation, report_to_json, users};
use crate::{Context, Outcome, Params, Router, RpcError, When, errno};

pub(super) fn register(router: &mut Router) {
    type Read = fn(&mut Params) -> Result<NvmeOrder, RpcError>;
    let methods: [(&'static str, Read); 11] = [
        ("bdev_nvme_format_namespace", read_format),
        ("bdev_nvme_create_namespace", read_create),
        ("bdev_nvme_delete_namespace", |params| read_nsid(params).map(NvmeOrder::DeleteNamespace)),
        ("bdev_nvme_attach_namespace", |params| read_nsid(params).map(NvmeOrder::AttachNamespace)),
        ("bdev_nvme_detach_namespace", |params| read_nsid(params).map(NvmeOrder::DetachNamespace)),
        ("bdev_nvme_get_namespaces", |_| Ok(NvmeOrder::Tell(NvmeSubject::Namespaces))),
        ("bdev_nvme_download_firmware", read_download),
        ("bdev_nvme_commit_firmware", read_commit),
        ("bdev_nvme_self_test", read_self_test),
        ("bdev_nvme_sanitize", read_sanitize),
        ("bdev_nvme_get_log", read_log),
    ];
    for (name, read) in methods {
        router.register_async(name, When::Runtime, move |cx, params| manage(cx, params, read));
    }
    router.register("bdev_nvme_apply_firmware", When::Runtime, |_, _| {
        let message = "there are no files to take firmware from: send it with \
                       bdev_nvme_download_firmware, and have it run with bdev_nvme_commit_firmware";
        Err(RpcError::errno(errno::EOPNOTSUPP, message))
    });
}

async fn manage(
    cx: Context,
    mut params: Params,
    read: fn(&mut Params) -> Result<NvmeOrder, RpcError>,
) -> Outcome {
    let name: String = params.required("name")?;
    let order = read(&mut params)?;
    params.finish()?;
    let control = cx.service::<NvmeControl>().map_err(|_| no_such_device(&name))?;
    if !control.has(&name) {
        return Err(no_such_device(&name));
    }
    match control.manage(name, order).await {
        Ok(NvmeReport::Done) => Ok(Value::Bool(true)),
        Ok(NvmeReport::Created(nsid)) => Ok(json!({"nsid": nsid})),
        Ok(NvmeReport::Committed(needed)) => Ok(json!({"activation": activation(needed)})),
        Ok(report) => Ok(report_to_json(&report)),
        Err(NvmeRefusal::InUse(bdev)) => Err(in_use(&cx, &bdev)),
        Err(NvmeRefusal::Failed(error)) => Err(error),
    }
}

fn in_use(cx: &Context, bdev: &str) -> RpcError {
    used_by(bdev, &users(cx, bdev))
}

/// The refusal of what would lose a bdev that these have open.
pub(super) fn used_by(bdev: &str, users: &[String]) -> RpcError {
    let by = if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) };
    RpcError::errno(errno::EBUSY, format!("{bdev} is in use{by}: nothing was done"))
}

/// One of several words.
fn read_word<T: Copy>(
    params: &mut Params,
    name: &str,
    words: &[(&str, T)],
) -> Result<Option<T>, RpcError> {
    let Some(given) = params.optional::<String>(name)? else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == given).map(|(_, value)| *value);
    found.map(Some).ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        RpcError::params(format!("'{name}' is one of {}", words.join(", ")))
    })
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, RpcError> {
    value.ok_or_else(|| RpcError::params(format!("parameter '{name}' is missing")))
}

/// A flag, as one of two values.
fn read_flag<T: Default>(params: &mut Params, name: &str, set: T) -> Result<T, RpcError> {
    let flag: Option<bool> = params.optional(name)?;
    Ok(if flag.unwrap_or(false) { set } else { T::default() })
}

fn read_nsid(params: &mut Params) -> Result<u32, RpcError> {
    match params.required("nsid")? {
        0 | NSID_ALL => Err(RpcError::params("'nsid' is not that of one namespace")),
        nsid => Ok(nsid),
    }
}

/// `lbaf` or `block_size`.
fn read_blocks(params: &mut Params) -> Result<BlockFormat, RpcError> {
    let index: Option<u8> = params.optional("lbaf")?;
    let size: Option<u32> = params.optional("block_size")?;
    match (index, size) {
        (Some(index), None) => Ok(BlockFormat::Index(index)),
        (None, Some(size)) => Ok(BlockFormat::Size(size)),
        _ => Err(RpcError::params("one of 'lbaf' and 'block_size' is needed")),
    }
}

fn read_format(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let target = match params.required("nsid")? {
        Value::String(all) if all == "all" => FormatTarget::All,
        Value::Number(nsid) => match nsid.as_u64().and_then(|nsid| u32::try_from(nsid).ok()) {
            Some(nsid) if nsid != 0 && nsid != NSID_ALL => FormatTarget::Namespace(nsid),
            _ => return Err(RpcError::params("'nsid' is not that of one namespace")),
        },
        _ => return Err(RpcError::params("'nsid' is a namespace's, or \"all\"")),
    };
    let blocks = read_blocks(params)?;
    let erasures = [
        ("none", SecureErase::None),
        ("user_data", SecureErase::UserData),
        ("cryptographic", SecureErase::Cryptographic),
    ];
    let settings = FormatSettings {
        erase: read_word(params, "erase", &erasures)?.unwrap_or_default(),
        metadata: read_flag(params, "md_interleave", MetadataPlace::InLine)?,
        protection: params.optional("dif_type")?.unwrap_or(0),
        protection_place: read_flag(params, "dif_is_head_of_md", ProtectionPlace::First)?,
    };
    Ok(NvmeOrder::Format { target, blocks, settings })
}

fn read_create(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let blocks = params.required("num_blocks")?;
    Ok(NvmeOrder::CreateNamespace { blocks, format: read_blocks(params)? })
}

fn read_download(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let offset = params.optional("offset")?.unwrap_or(0);
    let data: String = params.required("data")?;
    let image = STANDARD.decode(&data).or_else(|_| URL_SAFE.decode(&data));
    let image = image.map_err(|error| RpcError::params(format!("'data' is no base64: {error}")))?;
    Ok(NvmeOrder::DownloadFirmware { offset, image })
}

fn read_commit(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let actions = [
        ("store", FirmwareAction::Store),
        ("store_and_activate_at_reset", FirmwareAction::StoreAndActivateAtReset),
        ("activate_at_reset", FirmwareAction::ActivateAtReset),
        ("activate_now", FirmwareAction::ActivateNow),
    ];
    let slot = params.optional("slot")?.unwrap_or(0);
    let action = required("action", read_word(params, "action", &actions)?)?;
    Ok(NvmeOrder::CommitFirmware { slot, action })
}

fn read_self_test(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let tests =
        [("short", SelfTest::Short), ("extended", SelfTest::Extended), ("abort", SelfTest::Abort)];
    let nsid = params.optional("nsid")?.unwrap_or(NSID_ALL);
    let test = required("action", read_word(params, "action", &tests)?)?;
    Ok(NvmeOrder::SelfTest { nsid, test })
}

fn read_sanitize(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let pattern: Option<u32> = params.optional("pattern")?;
    let count: Option<u8> = params.optional("passes")?;
    let invert: Option<bool> = params.optional("invert")?;
    let passes = OverwritePasses {
        pattern: pattern.unwrap_or(0),
        passes: count.unwrap_or(1),
        inverted: if invert == Some(true) { Inverted::Yes } else { Inverted::No },
    };
    let actions = [
        ("block_erase", SanitizeAction::BlockErase),
        ("overwrite", SanitizeAction::Overwrite(passes)),
        ("crypto_erase", SanitizeAction::CryptoErase),
        ("exit_failure", SanitizeAction::ExitFailure),
    ];
    let action = required("action", read_word(params, "action", &actions)?)?;
    let is_overwrite = matches!(action, SanitizeAction::Overwrite(_));
    if !is_overwrite && (pattern.is_some() || count.is_some() || invert.is_some()) {
        return Err(RpcError::params("'pattern', 'passes' and 'invert' are for overwrite"));
    }
    Ok(NvmeOrder::Sanitize(Sanitize {
        action,
        on_failure: read_flag(params, "unrestricted", OnFailure::Unrestricted)?,
        deallocation: read_flag(params, "no_deallocate", Deallocation::No)?,
    }))
}

fn read_log(params: &mut Params) -> Result<NvmeOrder, RpcError> {
    let logs = [
        ("firmware", NvmeSubject::Firmware),
        ("effects", NvmeSubject::Effects),
        ("self_test", NvmeSubject::SelfTests),
        ("sanitize", NvmeSubject::Sanitizing),
    ];
    required("log", read_word(params, "log", &logs)?).map(NvmeOrder::Tell)
}
