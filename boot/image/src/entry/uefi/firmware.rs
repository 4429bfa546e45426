#![expect(unsafe_code, reason = "calls firmware through its tables")]

//! Firmware's services, as far as they are needed to leave it.

use core::ffi::c_void;
use core::ptr::{NonNull, null_mut};

use bootloader_api::info::{FrameBuffer, FrameBufferInfo, PixelFormat};
use uefi_raw::protocol::console::{GraphicsOutputProtocol, GraphicsPixelFormat};
use uefi_raw::protocol::file_system::{
    FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol,
};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::{BootServices, MemoryDescriptor, MemoryType};
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status, guid};

/// The configuration tables that point at ACPI's root pointer (UEFI 2.10 §4.6.1.1), best first.
const ACPI_TABLES: [Guid; 2] =
    [guid!("8868e871-e4f1-11d3-bc22-0080c73c8881"), guid!("eb9d2d30-2d88-11d3-9a16-0090273fc14d")];
/// A longer configuration is not one of ours.
const FILE_LEN_MAX: u64 = 16 << 20;
/// Memory map entries that may come up between asking for the map's size and having the map.
const NEW_DESCRIPTORS_MAX: usize = 64;
/// How often firmware may say that the memory map has changed just now.
const EXIT_ATTEMPTS_MAX: usize = 8;

/// Why the machine cannot be taken over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) status: Status,
}

impl Refusal {
    pub(super) const fn new(reason: &'static str, status: Status) -> Self {
        Self { reason, status }
    }
}

/// Firmware while its boot services last.
pub(super) struct Firmware {
    image: Handle,
    table: &'static SystemTable,
    services: &'static BootServices,
}

/// The memory map at the end of boot services.
pub(super) struct MemoryMap {
    first: NonNull<u8>,
    count: usize,
    stride: usize,
}

impl MemoryMap {
    pub(super) fn descriptors(&self) -> impl Iterator<Item = MemoryDescriptor> {
        (0..self.count).map(|index| {
            // SAFETY: firmware wrote `count` descriptors, `stride` bytes apart and at least as
            // long as the one known here (checked); the memory is not freed.
            unsafe { self.first.byte_add(index * self.stride).cast().read_unaligned() }
        })
    }
}

impl Firmware {
    /// `None` if there is no table, or boot services are over.
    ///
    /// # Safety
    /// `table` is the system table, or null, and `image` is the running image's handle.
    pub(super) unsafe fn new(image: Handle, table: *const SystemTable) -> Option<Self> {
        // SAFETY: the caller passes firmware's table, which stays where it is.
        let table = unsafe { table.as_ref() }?;
        // SAFETY: the table points at the services, or at nothing once they are over.
        let services = unsafe { table.boot_services.as_ref() }?;
        Some(Self { image, table, services })
    }

    /// Prints to firmware's console.
    pub(super) fn print(&self, text: &str) {
        if self.table.stdout.is_null() {
            return;
        }
        for unit in text.encode_utf16() {
            // SAFETY: the console's own method with the console, and a string that ends in zero.
            let _ = unsafe {
                ((*self.table.stdout).output_string)(self.table.stdout, [unit, 0].as_ptr())
            };
        }
    }

    /// The address of ACPI's root pointer.
    pub(super) fn rsdp(&self) -> Option<u64> {
        let count = self.table.number_of_configuration_table_entries;
        if self.table.configuration_table.is_null() {
            return None;
        }
        // SAFETY: firmware describes an array of that many entries.
        let tables = unsafe { core::slice::from_raw_parts(self.table.configuration_table, count) };
        let find = |guid: &Guid| tables.iter().find(|table| table.vendor_guid == *guid);
        let found = ACPI_TABLES.iter().find_map(find)?;
        Some(found.vendor_table as u64).filter(|&address| address != 0)
    }

    /// The screen's frame buffer, in the mode that firmware has set (UEFI 2.10 §12.9). `None` if
    /// there is no screen, or its pixels are not of 4 bytes, one for each colour.
    pub(super) fn frame_buffer(&self) -> Option<FrameBuffer> {
        let mut interface = null_mut();
        // SAFETY: an identifier, and a place for the answer.
        let status = unsafe {
            let guid = &GraphicsOutputProtocol::GUID;
            (self.services.locate_protocol)(guid, core::ptr::null(), &mut interface)
        };
        let screen = NonNull::new(interface).filter(|_| status.is_success())?;
        // SAFETY: that is what firmware installs under this identifier.
        let screen = unsafe { screen.cast::<GraphicsOutputProtocol>().as_ref() };
        // SAFETY: firmware's own description of its mode, or nothing.
        let mode = unsafe { screen.mode.as_ref() }?;
        // SAFETY: as above.
        let info = unsafe { mode.info.as_ref() }?;
        let pixel_format = match info.pixel_format {
            GraphicsPixelFormat::PIXEL_RED_GREEN_BLUE_RESERVED_8_BIT_PER_COLOR => PixelFormat::Rgb,
            GraphicsPixelFormat::PIXEL_BLUE_GREEN_RED_RESERVED_8_BIT_PER_COLOR => PixelFormat::Bgr,
            _ => return None,
        };
        let info = FrameBufferInfo {
            byte_len: mode.frame_buffer_size,
            width: info.horizontal_resolution as usize,
            height: info.vertical_resolution as usize,
            pixel_format,
            bytes_per_pixel: 4,
            stride: info.pixels_per_scan_line as usize,
        };
        // SAFETY: firmware describes it, and leaves it alone from the end of its services on.
        (mode.frame_buffer_base != 0)
            .then(|| unsafe { FrameBuffer::new(mode.frame_buffer_base, info) })
    }

    /// Reads file `path` (UTF-16, zero at the end) of the volume that the image came from, into
    /// memory that is never given back. `None` if there is no such volume or file.
    pub(super) fn read_file(&self, path: &[u16]) -> Result<Option<&'static [u8]>, Refusal> {
        let refuse = |status| Refusal::new("\\basalt.json cannot be read", status);
        let Some(volume) = self.boot_volume() else {
            return Ok(None);
        };
        let Some(root) = File::open_volume(volume).map_err(refuse)? else {
            return Ok(None);
        };
        let Some(file) = root.open(path).map_err(refuse)? else {
            return Ok(None);
        };
        let len = file.len().map_err(refuse)?;
        if len > FILE_LEN_MAX {
            return Err(Refusal::new(
                "\\basalt.json is longer than 16 MiB",
                Status::BAD_BUFFER_SIZE,
            ));
        }
        let buffer = self.allocate(len as usize).map_err(refuse)?;
        let read = file.read(buffer, len as usize).map_err(refuse)?;
        if read as u64 != len {
            return Err(refuse(Status::END_OF_FILE));
        }
        // SAFETY: `read` bytes were just written there, to memory that nobody frees or writes.
        Ok(Some(unsafe { core::slice::from_raw_parts(buffer.as_ptr(), read) }))
    }

    /// The file system that the image was loaded from.
    fn boot_volume(&self) -> Option<NonNull<SimpleFileSystemProtocol>> {
        let image = self.protocol(self.image, &LoadedImageProtocol::GUID)?;
        // SAFETY: that is what firmware installs under this identifier.
        let device = unsafe { image.cast::<LoadedImageProtocol>().as_ref() }.device_handle;
        if device.is_null() {
            return None;
        }
        Some(self.protocol(device, &SimpleFileSystemProtocol::GUID)?.cast())
    }

    fn protocol(&self, handle: Handle, guid: &Guid) -> Option<NonNull<c_void>> {
        let mut interface = null_mut();
        // SAFETY: a handle that came from firmware, and a place for the answer.
        let status = unsafe { (self.services.handle_protocol)(handle, guid, &mut interface) };
        NonNull::new(interface).filter(|_| status.is_success())
    }

    fn allocate(&self, len: usize) -> Result<NonNull<u8>, Status> {
        let mut buffer = null_mut();
        // SAFETY: a place for the answer.
        let status = unsafe {
            (self.services.allocate_pool)(MemoryType::LOADER_DATA, len.max(1), &mut buffer)
        };
        checked(status)?;
        NonNull::new(buffer).ok_or(Status::OUT_OF_RESOURCES)
    }

    /// Ends boot services (UEFI 2.10 §7.4.6). The map has at most `descriptors_max` entries.
    ///
    /// From here on neither firmware's console nor its memory services can be relied on, even if
    /// it refuses.
    pub(super) fn exit_boot_services(&self, descriptors_max: usize) -> Result<MemoryMap, Refusal> {
        let refuse = |status| Refusal::new("firmware gives no memory map", status);
        let (mut len, mut stride) = (0, 0);
        let (status, _) = self.memory_map(null_mut(), &mut len, &mut stride);
        if status != Status::BUFFER_TOO_SMALL || stride < size_of::<MemoryDescriptor>() {
            return Err(refuse(status));
        }
        let room = len + NEW_DESCRIPTORS_MAX * stride;
        if room / stride > descriptors_max {
            return Err(Refusal::new("the memory map is too long", Status::OUT_OF_RESOURCES));
        }
        let buffer = self.allocate(room).map_err(refuse)?;
        let mut ended = Status::ABORTED;
        for _ in 0..EXIT_ATTEMPTS_MAX {
            len = room;
            let (status, key) = self.memory_map(buffer.as_ptr(), &mut len, &mut stride);
            checked(status).map_err(refuse)?;
            // SAFETY: nothing of firmware's is used after it succeeds.
            ended = unsafe { (self.services.exit_boot_services)(self.image, key) };
            if ended.is_success() {
                return Ok(MemoryMap { first: buffer, count: len / stride, stride });
            }
        }
        Err(Refusal::new("firmware does not end its boot services", ended))
    }

    /// Writes the map to `buffer` of `len` bytes; `len` becomes the map's. Answers with its key.
    fn memory_map(&self, buffer: *mut u8, len: &mut usize, stride: &mut usize) -> (Status, usize) {
        let (mut key, mut version) = (0, 0);
        // SAFETY: `buffer` has `len` bytes, as the callers see to.
        let status = unsafe {
            (self.services.get_memory_map)(len, buffer.cast(), &mut key, stride, &mut version)
        };
        (status, key)
    }
}

/// An open file or directory; closed when dropped.
struct File(NonNull<FileProtocolV1>);

impl File {
    /// The root directory; `None` if there is no medium.
    fn open_volume(volume: NonNull<SimpleFileSystemProtocol>) -> Result<Option<Self>, Status> {
        let mut root = null_mut();
        // SAFETY: the volume's own method with the volume, and a place for the answer.
        let status = unsafe { (volume.as_ref().open_volume)(volume.as_ptr(), &mut root) };
        Self::opened(status, root)
    }

    fn open(&self, path: &[u16]) -> Result<Option<Self>, Status> {
        let mut file = null_mut();
        // SAFETY: the file's own method with the file, and a path that ends in zero.
        let status = unsafe {
            (self.0.as_ref().open)(
                self.0.as_ptr(),
                &mut file,
                path.as_ptr(),
                FileMode::READ,
                FileAttribute::empty(),
            )
        };
        Self::opened(status, file)
    }

    fn opened(status: Status, file: *mut FileProtocolV1) -> Result<Option<Self>, Status> {
        if matches!(status, Status::NOT_FOUND | Status::NO_MEDIA) {
            return Ok(None);
        }
        checked(status)?;
        Ok(NonNull::new(file).map(Self))
    }

    /// Bytes in the file, by going to its end and back.
    fn len(&self) -> Result<u64, Status> {
        const END: u64 = u64::MAX;
        // SAFETY: the file's own methods with the file; this one is an open file.
        let file = unsafe { self.0.as_ref() };
        let mut len = 0;
        // SAFETY: as above, and a place for the answer.
        unsafe {
            checked((file.set_position)(self.0.as_ptr(), END))?;
            checked((file.get_position)(self.0.as_ptr(), &mut len))?;
            checked((file.set_position)(self.0.as_ptr(), 0))?;
        }
        Ok(len)
    }

    /// Reads at most `len` bytes to `buffer`, which has that many; how many it were.
    fn read(&self, buffer: NonNull<u8>, mut len: usize) -> Result<usize, Status> {
        let room = len;
        // SAFETY: the file's own method with the file; the buffer is as long as stated.
        let status =
            unsafe { (self.0.as_ref().read)(self.0.as_ptr(), &mut len, buffer.as_ptr().cast()) };
        checked(status)?;
        Ok(len.min(room))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the file's own method with the file, which is not used again.
        let _ = unsafe { (self.0.as_ref().close)(self.0.as_ptr()) };
    }
}

fn checked(status: Status) -> Result<(), Status> {
    if status.is_success() { Ok(()) } else { Err(status) }
}
