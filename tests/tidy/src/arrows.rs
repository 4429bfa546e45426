//! Dependencies between crates point one way: boot -> runtime -> drivers -> kernel/env.

use crate::{Kind, Package, Problem};

/// Drivers that are not about one device: any runtime crate may use them.
const COMMON_DRIVERS: [&str; 2] = ["drivers/ring", "drivers/nvme-spec"];

/// The crates that adapt a driver to a service, and the driver.
const ADAPTERS: [(&str, &str); 5] = [
    ("runtime/bdev-nvme", "drivers/nvme"),
    ("runtime/bdev-virtio", "drivers/virtio-blk"),
    ("runtime/bdev-virtio", "drivers/virtio-scsi"),
    ("runtime/bdev-virtio", "drivers/virtio"),
    ("runtime/net", "drivers/virtio-net"),
];

/// The composition roots, and the environment of each.
const ROOTS: [(&str, &str); 3] = [
    ("boot/image", "kernel/bare"),
    ("boot/setup", "kernel/bare"),
    ("boot/hosted", "kernel/hosted"),
];

/// The image and the part of it that is a crate of its own; an application and the image it is in.
const IMAGES_PARTS: [(&str, &str); 2] =
    [("boot/image", "boot/setup"), ("boot/scrub", "boot/image")];

/// The tests that use what the runner can do.
const RUNNERS_USERS: [&str; 2] = ["tests/fuzz", "tests/qemu"];

/// Every dependency that breaks a rule.
pub fn check(packages: &[Package]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for package in packages {
        let from = package.directory.as_str();
        for dependency in &package.dependencies {
            let Some(to) = dependency.directory.as_deref() else { continue };
            if let Err(remedy) = arrow(from, to, dependency.kind) {
                let what = format!("{from} must not depend on {to}");
                problems.push(Problem {
                    file: format!("{from}/Cargo.toml"),
                    line: 1,
                    what,
                    remedy,
                });
            }
        }
    }
    problems
}

/// Whether the crate at `from` may depend on the one at `to`.
fn arrow(from: &str, to: &str, kind: Kind) -> Result<(), &'static str> {
    if kind == Kind::Dev && matches!(to, "kernel/hosted" | "tests/models" | "tests/loom") {
        return Ok(());
    }
    let area = |path: &str| path.split('/').next().unwrap_or_default().to_owned();
    let (from_area, to_area) = (area(from), area(to));
    match (from_area.as_str(), to_area.as_str()) {
        ("tests", "boot") if RUNNERS_USERS.contains(&from) && to == "boot/runner" => Ok(()),
        _ if IMAGES_PARTS.contains(&(from, to)) => Ok(()),
        (_, "boot") => {
            Err("only tests/qemu and tests/fuzz may name boot, and of it only the runner")
        }
        ("tests", _) => Ok(()),
        (_, "tests") => {
            Err("only tests, and dev-dependencies on tests/models and tests/loom, may name tests")
        }
        _ if matches!(to, "kernel/bare" | "kernel/hosted") && !ROOTS.contains(&(from, to)) => Err(
            "be generic over kernel/env: only its composition root and tests name an environment",
        ),
        ("boot", _) => Ok(()),
        ("runtime", "drivers") => driver_of_runtime(from, to),
        ("runtime", "runtime" | "kernel") | ("drivers", "drivers" | "kernel") => Ok(()),
        ("kernel", "kernel") if from != "kernel/env" => Ok(()),
        ("drivers", _) => Err("a driver knows drivers and kernel/env only: hand the need upwards"),
        _ => Err("kernel is the lowest layer: move the code up, or the need into kernel/env"),
    }
}

fn driver_of_runtime(from: &str, to: &str) -> Result<(), &'static str> {
    if COMMON_DRIVERS.contains(&to) || ADAPTERS.contains(&(from, to)) {
        return Ok(());
    }
    Err("only its adapter crate names a driver (runtime/bdev-*, runtime/net)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dependency;

    #[test]
    fn the_arrows_of_the_design_are_allowed() {
        for (from, to) in [
            ("boot/image", "runtime/rpc"),
            ("boot/image", "kernel/bare"),
            ("boot/setup", "kernel/bare"),
            ("boot/image", "boot/setup"),
            ("boot/scrub", "boot/image"),
            ("boot/hosted", "kernel/hosted"),
            ("runtime/nvmf", "runtime/bdev"),
            ("runtime/nvmf", "drivers/nvme-spec"),
            ("runtime/bdev-nvme", "drivers/nvme"),
            ("runtime/net", "drivers/virtio-net"),
            ("drivers/nvme", "drivers/ring"),
            ("drivers/nvme", "kernel/env"),
            ("kernel/bare", "kernel/env"),
            ("tests/models", "drivers/nvme-spec"),
            ("tests/qemu", "boot/runner"),
            ("tests/fuzz", "boot/runner"),
        ] {
            assert_eq!(arrow(from, to, Kind::Normal), Ok(()), "{from} -> {to}");
        }
        assert_eq!(arrow("drivers/nvme", "tests/models", Kind::Dev), Ok(()));
        assert_eq!(arrow("runtime/bdev", "kernel/hosted", Kind::Dev), Ok(()));
    }

    #[test]
    fn every_other_arrow_is_refused() {
        for (from, to) in [
            ("drivers/nvme", "runtime/bdev"),
            ("drivers/nvme", "kernel/bare"),
            ("drivers/nvme", "tests/models"),
            ("runtime/bdev", "drivers/nvme"),
            ("runtime/net", "drivers/nvme"),
            ("runtime/bdev", "kernel/hosted"),
            ("runtime/rpc", "boot/runner"),
            ("runtime/rpc", "tests/models"),
            ("boot/runner", "kernel/hosted"),
            ("boot/image", "kernel/hosted"),
            ("boot/hosted", "kernel/bare"),
            ("boot/setup", "kernel/hosted"),
            ("boot/setup", "boot/image"),
            ("boot/hosted", "boot/setup"),
            ("boot/image", "boot/runner"),
            ("boot/image", "tests/models"),
            ("kernel/env", "kernel/bare"),
            ("kernel/env", "drivers/ring"),
            ("kernel/bare", "kernel/hosted"),
            ("kernel/bare", "runtime/metrics"),
            ("tests/models", "boot/runner"),
            ("tests/qemu", "boot/image"),
            ("tests/sim", "boot/runner"),
        ] {
            assert!(arrow(from, to, Kind::Normal).is_err(), "{from} -> {to}");
        }
        assert!(arrow("drivers/nvme", "runtime/bdev", Kind::Dev).is_err());
        assert!(arrow("runtime/bdev", "tests/sim", Kind::Dev).is_err());
    }

    #[test]
    fn a_wrong_arrow_is_reported_at_its_manifest_and_a_registry_crate_is_none() {
        let dependency = |name: &str, directory: Option<&str>| Dependency {
            name: name.into(),
            kind: Kind::Normal,
            directory: directory.map(str::to_owned),
            requirement: "*".into(),
        };
        let package = Package {
            directory: "drivers/nvme".into(),
            dependencies: vec![
                dependency("log", None),
                dependency("basalt-bdev", Some("runtime/bdev")),
            ],
            roots: Vec::new(),
        };
        let problems = check(&[package]);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].file, "drivers/nvme/Cargo.toml");
        assert!(problems[0].to_string().contains("must not depend on runtime/bdev"));
    }
}
