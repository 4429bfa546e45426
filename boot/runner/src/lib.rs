//! The host tool behind `cargo run`: builds the Basalt image, prepares it for booting and starts
//! it in QEMU.
//!
//! The binary is thin; everything is here so that the tests in `tests/qemu` boot the same image on
//! the same virtual machine as a user does.
//!
//! - [`Workspace`] finds the source tree and its target directory, and builds the image.
//! - [`image`] turns the linked image into the bootable `target/image/basalt.elf`, symbols inside,
//!   that into the UEFI application `basalt.efi`, and that into the boot disk `basalt.img`.
//! - [`Machine`] describes a virtual machine and renders it as a QEMU command.
//! - [`accel`] finds out by trying whether KVM works here.
//! - [`firmware`] finds UEFI firmware for virtual machines.
//! - [`packages`] installs what is missing, or says how to.
//! - [`disk`], [`config`] and [`ports`] check what the user passed before anything is started.
//! - [`launch`] starts QEMU, passes its console on and ends it when asked.
//! - [`linux`] makes a Linux guest of Debian's packages.
//! - `hosted` builds and starts the hosted twin.
//! - [`rpc`] calls a machine's methods; [`trace`] has it trace, and [`top`] shows what it
//!   is busy with.
//! - `bench` measures the image and fio in a Linux guest on the same virtual machine.

pub mod accel;
mod bench;
pub mod cli;
pub mod config;
pub mod disk;
pub mod firmware;
mod hosted;
pub mod image;
pub mod launch;
pub mod linux;
mod machine;
pub mod packages;
pub mod ports;
pub mod rpc;
mod run;
pub mod top;
pub mod trace;
mod workspace;

pub use machine::{Bus, DebugExit, Disk, Machine, Medium, Network, Nic, Uefi, shell_quote};
pub use run::run;
pub use workspace::{Build, FileLock, Workspace};
