#![expect(unsafe_code, reason = "hands out memory and starts the cores")]

//! The machine as a value: started once, then run.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::time::Duration;

use basalt_env::{CoreId, DmaArena, Nearness, Numa};
use bootloader_api::BootInfo;
use spin::Once;

use crate::acpi_tables::{self, Platform};
use crate::clock::{self, Clock};
use crate::drill::{self, Drill};
use crate::io_ports::MachinePorts;
use crate::ioapic::{IoApic, Signal};
use crate::memory::{self, FreeMemory, Span};
use crate::mmio::IdentityMap;
use crate::paging::{ADDRESS_SPACE, AddressSpace};
use crate::pci_config::PciConfig;
use crate::smp::{self, Job, Message, NoStart};
use crate::stack::{self, BLOCK_LEN, CORES_MAX};
use crate::{
    apic, arenas, calibrate, cpu, fw_cfg, gdt, heap, idt, image, logger, rtc, screen, serial,
    symbols, ticks,
};

/// The fw_cfg file with the configuration.
const CONFIG_FILE: &str = "opt/basalt/config";
const MIB: u64 = 1 << 20;

/// Why the machine cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartError {
    /// The processor cannot mark memory as not executable.
    NoExecuteDisable,
    /// The image's own ELF headers are not where they should be.
    ImageHeaders,
    /// There is not enough memory for the heap, the stacks or the DMA arenas.
    OutOfMemory {
        /// Bytes that were free.
        free: u64,
    },
    /// No timer could be found to measure the processor's clock with.
    NoClock,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoExecuteDisable => f.write_str("the processor lacks the NX bit"),
            Self::ImageHeaders => f.write_str("the image was loaded without its ELF headers"),
            Self::OutOfMemory { free } => {
                write!(
                    f,
                    "too little memory ({} MiB free); up to two cores take 32 MiB, each further \
                     one 16 MiB more",
                    free / MIB
                )
            }
            Self::NoClock => f.write_str("no timer to measure the time-stamp counter with"),
        }
    }
}

/// A started machine: all cores up and waiting.
pub struct Machine {
    clock: Clock,
    pci_config: PciConfig,
    config: Option<&'static [u8]>,
    dsdt: &'static [u8],
    iommu: Option<IommuParts>,
    arenas: Vec<DmaArena>,
    /// APIC identifiers by core.
    apic_ids: &'static [u32],
    numa: Numa,
    io_apics: Vec<IoApic>,
    rtc_signal: Option<Signal>,
}

/// What the machine's IOMMU is driven with.
#[derive(Debug)]
pub struct IommuParts {
    /// ACPI's table of remapping units (DMAR).
    pub dmar: &'static [u8],
    /// Memory for its tables, that of no core.
    pub tables: DmaArena,
    /// The cores' DMA memory, which devices may reach.
    pub reachable: Vec<Range<u64>>,
}

/// What a core is, and what is its alone.
#[derive(Debug)]
pub struct CoreContext {
    /// Which core this is.
    pub core: CoreId,
    /// How many there are.
    pub cores: usize,
    /// The processor's own name for it.
    pub apic_id: u32,
    /// The clock, the same on all cores.
    pub clock: Clock,
    /// The core's DMA memory.
    pub arena: DmaArena,
    /// Wakes cores that rest.
    pub waker: CoreWaker,
}

/// Halts this core until `at_most` has passed or another core wakes it ([`CoreWaker`]).
///
/// Polling again after this is how an idle core saves power. May return early. A wake-up that was
/// sent since the last rest ends this one at once.
pub fn rest(at_most: Duration) {
    apic::rest(at_most);
}

/// APIC identifiers by core, once they are known.
static APIC_IDS: Once<&'static [u32]> = Once::new();

/// The APIC identifier of a core.
pub(crate) fn apic_id_of(core: CoreId) -> Option<u32> {
    APIC_IDS.get()?.get(core.index()).copied()
}

/// Ends the rests of other cores.
#[derive(Clone, Copy, Debug)]
pub struct CoreWaker {
    apic_ids: &'static [u32],
}

impl CoreWaker {
    /// Ends the rest of `core`, the current one or, if it is busy, its next one. Costs an
    /// inter-processor interrupt; does nothing if there is no such core.
    pub fn wake(&self, core: CoreId) {
        if let Some(&apic_id) = self.apic_ids.get(core.index()) {
            apic::wake(apic_id);
        }
    }
}

impl Machine {
    /// Brings up everything the boot core finds, and all other cores.
    ///
    /// To be called once, on the boot core, with what the loader filled in; the loader's page
    /// tables must map the first 4 GiB where they are. If `boot_info` names a stack, the page
    /// below it becomes its guard page.
    pub fn start(boot_info: &'static mut BootInfo) -> Result<Self, StartError> {
        let epoch = clock::ticks();
        serial::init();
        open_screen(boot_info, memory::FOUR_GIB);
        logger::init();
        cpu::init_core();
        log::info!("Basalt {} on {}", env!("CARGO_PKG_VERSION"), cpu::brand().trim());
        log::info!("processor features: {}", cpu::features().trim());
        if !cpu::has_no_execute() {
            return Err(StartError::NoExecuteDisable);
        }
        let mut free = free_memory(boot_info)?;
        let out = StartError::OutOfMemory { free: free.len() };
        let heap_len = heap::init(&mut free).ok_or(out)?;
        add_core(0, &mut free).ok_or(out)?;
        gdt::load(0);
        idt::load();
        open_address_space(boot_info);
        let platform = acpi_tables::read(boot_info.rsdp_addr.into_option());
        let clock = start_clock(&platform, epoch)?;
        let apic_ids = start_cores(boot_info, &platform, &clock, &mut free);
        let tables = match platform.dmar {
            [] => None,
            _ => Some(arenas::iommu_tables(&mut free).ok_or(out)?),
        };
        let spans = arenas::spans(free.clone(), &apic_ids, &platform.numa).ok_or(out)?;
        spans.iter().for_each(|span| free.reserve(*span));
        let heap_len = heap_len + heap::add_rest(&free);
        let reachable = spans.iter().map(|span| span.start..span.end).collect();
        let least_len = spans.iter().map(Span::len).min().unwrap_or_default();
        let arenas: Vec<_> = spans.into_iter().filter_map(arenas::arena).collect();
        let iommu = tables.map(|tables| IommuParts { dmar: platform.dmar, tables, reachable });
        log::info!(
            "memory: heap {} MiB, DMA {} MiB on each of {} cores",
            heap_len / MIB,
            least_len / MIB,
            apic_ids.len()
        );
        let pci_config = PciConfig::new(&platform.ecam, IdentityMap::new());
        let config = config(boot_info);
        let dsdt = platform.dsdt;
        let apic_ids = APIC_IDS.call_once(|| apic_ids.leak());
        let Platform { io_apics, rtc_signal, numa, .. } = platform;
        Ok(Self {
            clock,
            pci_config,
            config,
            dsdt,
            iommu,
            arenas,
            apic_ids,
            numa,
            io_apics,
            rtc_signal,
        })
    }

    /// The clock, running since the machine was started.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// PCI configuration space.
    pub fn config_space(&self) -> PciConfig {
        self.pci_config.clone()
    }

    /// I/O ports.
    pub fn io_ports(&self) -> MachinePorts {
        MachinePorts::new()
    }

    /// ACPI's table with the machine's byte code (DSDT); empty if there is none.
    pub fn dsdt(&self) -> &'static [u8] {
        self.dsdt
    }

    /// Which cores are near which node.
    pub fn nearness(&self) -> Nearness {
        Nearness::new(self.numa.clone(), self.apic_ids.into())
    }

    /// What an IOMMU is driven with, once; `None` if the machine has none.
    pub fn take_iommu(&mut self) -> Option<IommuParts> {
        self.iommu.take()
    }

    /// Has `look` called every 500 ms if there is only one core, whatever that core does. It may
    /// neither allocate nor wait for a lock, as it interrupts code that may hold it.
    pub fn look_at_only_core(&self, look: fn()) {
        let &[apic_id] = self.apic_ids else { return };
        if ticks::start(&self.io_apics, self.rtc_signal, apic_id, look).is_none() {
            log::info!("the real-time clock cannot interrupt: nobody looks at the only core");
        }
    }

    /// Access to device memory.
    pub fn mmio(&self) -> IdentityMap {
        IdentityMap::new()
    }

    /// The configuration handed over: the boot module (`-initrd`, or `\basalt.json` of a UEFI boot
    /// disk), else fw_cfg file `opt/basalt/config`. `None` if there is neither.
    pub fn config_blob(&self) -> Option<&'static [u8]> {
        self.config
    }

    /// How many cores there are, at least one.
    pub fn core_count(&self) -> usize {
        self.apic_ids.len()
    }

    /// Wakes cores that rest.
    pub fn waker(&self) -> CoreWaker {
        CoreWaker { apic_ids: self.apic_ids }
    }

    /// Runs `main` on every core, each on its main stack with its own context and seed; core *i*
    /// gets `seeds[i]`. A core without a seed stays parked.
    pub fn run<T: Send + 'static>(self, seeds: Vec<T>, main: fn(CoreContext, T) -> !) -> ! {
        let waker = self.waker();
        let cores = self.core_count();
        let parts = self.arenas.into_iter().zip(seeds).zip(self.apic_ids).enumerate();
        let mut jobs = parts.map(|(core, ((arena, seed), &apic_id))| {
            let core = CoreId(core as u16);
            let clock = self.clock;
            let context = CoreContext { core, cores, apic_id, clock, arena, waker };
            let launch = Box::into_raw(Box::new(Launch { main, context, seed }));
            Job { call: Launch::<T>::run, data: launch.cast() }
        });
        let Some(boot_job) = jobs.next() else {
            panic!("no seed for the boot core");
        };
        for (index, job) in jobs.enumerate() {
            smp::set_job(index + 1, Box::leak(Box::new(job)));
        }
        smp::run_on_boot_core(boot_job)
    }
}

/// All that a core takes with it.
struct Launch<T> {
    main: fn(CoreContext, T) -> !,
    context: CoreContext,
    seed: T,
}

impl<T: Send + 'static> Launch<T> {
    unsafe extern "C" fn run(data: *mut u8) -> ! {
        // SAFETY: `Machine::run` made this pointer of a box of this very type, for one call.
        let launch = unsafe { Box::from_raw(data.cast::<Self>()) };
        let Self { main, context, seed } = *launch;
        main(context, seed)
    }
}

/// Usable memory without the image and what the loader put next to it.
fn free_memory(boot_info: &BootInfo) -> Result<FreeMemory, StartError> {
    if image::segments().next().is_none() {
        return Err(StartError::ImageHeaders);
    }
    let mut free = FreeMemory::new(&boot_info.memory_regions);
    free.reserve(image::span());
    symbols::span().into_iter().for_each(|span| free.reserve(span));
    module(boot_info).into_iter().for_each(|span| free.reserve(span));
    log::info!("memory: {} MiB free", free.len() / MIB);
    Ok(free)
}

fn module(boot_info: &BootInfo) -> Option<Span> {
    let start = boot_info.ramdisk_addr.into_option()?;
    Some(Span::new(start, boot_info.ramdisk_len)).filter(|span| span.len() > 0)
}

/// Bytes in use that are neither heap nor DMA memory: the image, its symbols and all stacks.
pub fn fixed_memory() -> usize {
    let symbols = symbols::span().map_or(0, |span| span.len());
    let cores = (0..CORES_MAX).filter(|&core| stack::has_block(core)).count() as u64;
    (image::span().len() + symbols + cores * BLOCK_LEN) as usize
}

/// Stacks and a TSS for the next core, counted from 0.
fn add_core(core: usize, free: &mut FreeMemory) -> Option<()> {
    stack::set_block(core, free.take(BLOCK_LEN)?);
    gdt::add_core(core);
    Some(())
}

/// Switches to page tables of our own.
fn open_address_space(boot_info: &BootInfo) {
    let mut space = AddressSpace::new(&boot_info.memory_regions);
    stack::guards(0).for_each(|guard| space.unmap(guard));
    if boot_info.kernel_stack_bottom != 0 {
        let stack = Span::new(boot_info.kernel_stack_bottom, boot_info.kernel_stack_len);
        stack::set_boot_stack(stack);
        space.unmap(stack::guard_below(stack));
    }
    let frame = boot_info.framebuffer.as_ref().and_then(screen::span_of);
    let shown = frame.is_some_and(|frame| space.map_device(frame).is_ok());
    space.activate();
    *ADDRESS_SPACE.lock() = Some(space);
    if shown {
        open_screen(boot_info, u64::MAX);
    } else {
        screen::close();
    }
}

/// Opens the screen unless it is open, or lies beyond `mapped_to`, up to where all is mapped.
fn open_screen(boot_info: &BootInfo, mapped_to: u64) {
    let Some(frame) = boot_info.framebuffer.as_ref() else { return };
    if screen::span_of(frame).is_some_and(|span| span.end <= mapped_to) {
        // SAFETY: the caller says so: by the loader's tables at first, by ours later.
        unsafe { screen::init(frame) };
    }
}

/// A clock that began at counter value `epoch`.
fn start_clock(platform: &Platform, epoch: u64) -> Result<Clock, StartError> {
    let (hz, source) = calibrate::tsc_hz(&platform.timers).ok_or(StartError::NoClock)?;
    let clock = Clock::new(epoch, hz);
    clock::publish(clock);
    log::info!("clock: {}.{:03} MHz by {source}", hz / 1_000_000, hz / 1_000 % 1_000);
    if !cpu::has_invariant_tsc() && !cpu::is_virtual() {
        log::warn!(
            "the time-stamp counter may change its pace or stop, which the processor does not rule \
             out: time may go wrong; switch power saving (P-states, C-states) off in the firmware"
        );
    }
    tell_time(platform);
    Ok(clock)
}

/// When the log's time zero is, in the time of day.
fn tell_time(platform: &Platform) {
    let Some(now) = rtc::now(platform.rtc_century) else {
        return log::warn!("clock: no time of day, as the real-time clock does not tell it");
    };
    if let Ok(unix_s) = u64::try_from(now.unix_timestamp()) {
        clock::set_start(unix_s);
    }
    let (date, hour, minute, second) = (now.date(), now.hour(), now.minute(), now.second());
    log::info!("clock: it is {date} {hour:02}:{minute:02}:{second:02} UTC");
}

/// A core that took its stack and then did not go on. It may do so at any time, so that stack and
/// its index cannot be used for another: no more cores are started.
const STUCK: &str = "it started but does not become ready, so no more are started";

/// Starts the cores that ACPI lists; the APIC identifiers of those that run, the boot core's
/// first.
fn start_cores(
    boot_info: &BootInfo,
    platform: &Platform,
    clock: &Clock,
    free: &mut FreeMemory,
) -> Vec<u32> {
    apic::init_boot_core(&platform.apic_ids);
    apic::calibrate(clock);
    let boot = cpu::apic_id();
    let mut running = Vec::from([boot]);
    let others: Vec<u32> = platform.apic_ids.iter().copied().filter(|&id| id != boot).collect();
    let page = memory::trampoline_page(&boot_info.memory_regions);
    let page = page.filter(|&page| others.is_empty() || smp::prepare(page).is_some());
    let stacks = add_cores(others.len(), free);
    let silent = others
        .first()
        .filter(|_| drill::requested().is_some_and(|(drill, _)| drill == Drill::SilentCore));
    let silent = silent.copied();
    for apic_id in others {
        let started = page.ok_or("there is no memory below 1 MiB to start it in");
        let started = started.and_then(|page| match running.len() {
            core if core <= stacks => {
                let withheld = silent == Some(apic_id);
                let message = if withheld { Message::Withheld } else { Message::Sent };
                start_core(core, apic_id, page, clock, message)
            }
            _ => Err("there is no memory for its stacks"),
        });
        match started {
            Ok(()) => running.push(apic_id),
            Err(reason) => log::warn!("the core with APIC {apic_id} is left out: {reason}"),
        }
        if started == Err(STUCK) {
            break;
        }
    }
    log::info!("cores: {} ({})", running.len(), apic::mode_name());
    running
}

/// Stacks for `count` more cores, or as many as there is room for; how many that is.
///
/// All at once, as guard pages are only ever unmapped while one core runs.
fn add_cores(count: usize, free: &mut FreeMemory) -> usize {
    let mut added = 0;
    for core in 1..=count.min(CORES_MAX - 1) {
        if add_core(core, free).is_none() {
            break;
        }
        if let Some(space) = ADDRESS_SPACE.lock().as_mut() {
            stack::guards(core).for_each(|guard| space.unmap(guard));
        }
        added = core;
    }
    added
}

/// Starts the next core, whose stacks are there. One that does not start leaves them, untouched,
/// to the one after it.
fn start_core(
    core: usize,
    apic_id: u32,
    page: u64,
    clock: &Clock,
    message: Message,
) -> Result<(), &'static str> {
    if !apic::reaches(apic_id) {
        return Err("its identifier needs x2APIC mode, which the processor lacks");
    }
    smp::start(core, apic_id, page, clock, message).map_err(|reason| match reason {
        NoStart::Silent => "it does not start",
        NoStart::Stuck => STUCK,
    })
}

fn config(boot_info: &BootInfo) -> Option<&'static [u8]> {
    if let Some(span) = module(boot_info) {
        // SAFETY: the loader put the module there; its memory was reserved and is mapped.
        return Some(unsafe {
            core::slice::from_raw_parts(span.start as *const u8, span.len() as usize)
        });
    }
    fw_cfg::read(CONFIG_FILE).map(|bytes| &*bytes.leak())
}
