//! libpcap's compiler and interpreter of filter expressions, loaded when the first filter is compiled.
//!
//! Not linked: with it come the libraries of a dozen capture sources that are never used (D-Bus, systemd, gcrypt), and
//! each start of the command would pay for them, also where it filters nothing.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

/// Debian and its like have the first name, others the second.
const NAMES: [&str; 2] = ["libpcap.so.0.8", "libpcap.so.1"];
/// `DLT_EN10MB`.
const ETHERNET: c_int = 1;
/// Snap length: every filter sees whole packets.
const SNAP_LEN: c_int = 65_535;
/// `PCAP_NETMASK_UNKNOWN`.
const NETMASK_UNKNOWN: c_uint = c_uint::MAX;

/// Compiling resolves host and protocol names through the C library's old calls, which keep results in static memory.
static COMPILING: Mutex<()> = Mutex::new(());
static LIBPCAP: OnceLock<Result<Libpcap, String>> = OnceLock::new();

/// `struct bpf_program`. Its instructions are only looked at by libpcap.
#[repr(C)]
struct RawProgram {
    len: c_uint,
    instructions: *mut c_void,
}

type OpenDead = unsafe extern "C" fn(linktype: c_int, snap_len: c_int) -> *mut c_void;
type Compile = unsafe extern "C" fn(*mut c_void, *mut RawProgram, *const c_char, c_int, c_uint) -> c_int;
type LastError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type Close = unsafe extern "C" fn(*mut c_void);
type FreeCode = unsafe extern "C" fn(*mut RawProgram);
type Run = unsafe extern "C" fn(instructions: *const c_void, packet: *const u8, wire_len: u32, buffer_len: u32) -> u32;

/// Functions of the library, which stays loaded for the rest of the process's life.
struct Libpcap {
    open_dead: OpenDead,
    compile: Compile,
    last_error: LastError,
    close: Close,
    free_code: FreeCode,
    run: Run,
    _library: Library,
}

#[allow(unsafe_code)]
impl Libpcap {
    fn load() -> Result<Self, String> {
        let mut failure = String::new();
        for name in NAMES {
            // SAFETY: libpcap's initialisers, and those of the libraries it needs, have no requirements.
            match unsafe { Library::new(name) } {
                Ok(library) => return Self::of(library).map_err(|error| error.to_string()),
                Err(error) => failure = error.to_string(),
            }
        }
        Err(format!("filters need libpcap (Debian: apt-get install libpcap0.8): {failure}"))
    }

    fn of(library: Library) -> Result<Self, libloading::Error> {
        // SAFETY: the types are those of the functions' declarations in pcap/pcap.h, and they are called only while
        // `_library` is loaded: it is dropped never, since `LIBPCAP` is static.
        unsafe {
            Ok(Self {
                open_dead: *library.get::<OpenDead>(b"pcap_open_dead\0")?,
                compile: *library.get::<Compile>(b"pcap_compile\0")?,
                last_error: *library.get::<LastError>(b"pcap_geterr\0")?,
                close: *library.get::<Close>(b"pcap_close\0")?,
                free_code: *library.get::<FreeCode>(b"pcap_freecode\0")?,
                run: *library.get::<Run>(b"bpf_filter\0")?,
                _library: library,
            })
        }
    }

    fn compile(&'static self, expression: &CStr) -> Result<Program, String> {
        let _one_at_a_time = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: plain numbers; the result is null or a handle, which is closed below.
        let handle = unsafe { (self.open_dead)(ETHERNET, SNAP_LEN) };
        if handle.is_null() {
            return Err("libpcap is out of memory".to_owned());
        }
        let mut raw = RawProgram { len: 0, instructions: std::ptr::null_mut() };
        // SAFETY: the handle is live, `raw` is a program to be filled, the expression ends in a zero byte.
        let compiled = unsafe { (self.compile)(handle, &raw mut raw, expression.as_ptr(), 1, NETMASK_UNKNOWN) };
        // SAFETY: the handle is live; the message lies in it, and is copied before it is closed.
        let message = || unsafe { CStr::from_ptr((self.last_error)(handle)) }.to_string_lossy().into_owned();
        let result = if compiled == 0 { Ok(Program { raw, library: self }) } else { Err(message()) };
        // SAFETY: the handle is live and not used again; a compiled program does not need it.
        unsafe { (self.close)(handle) };
        result
    }
}

/// A compiled expression.
pub(super) struct Program {
    raw: RawProgram,
    library: &'static Libpcap,
}

// SAFETY: running a program reads it and the packet, nothing else; nothing writes it before it is dropped.
#[allow(unsafe_code)]
unsafe impl Send for Program {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Program {}

impl Program {
    /// Compiles an expression for Ethernet; the error is libpcap's, or says that it is missing.
    pub(super) fn compile(expression: &str) -> Result<Self, String> {
        let library = LIBPCAP.get_or_init(Libpcap::load).as_ref().map_err(Clone::clone)?;
        let expression = CString::new(expression).map_err(|_| "a filter cannot contain a zero byte".to_owned())?;
        library.compile(&expression)
    }

    /// Whether it accepts a packet of `wire_len` bytes that starts with `bytes`.
    #[inline]
    pub(super) fn accepts(&self, bytes: &[u8], wire_len: u32) -> bool {
        // SAFETY: the instructions come from a successful pcap_compile, live as long as `self` and end in a return on
        // every path; the interpreter checks each load against the buffer's length, that of the slice.
        #[allow(unsafe_code)]
        let accepted =
            unsafe { (self.library.run)(self.raw.instructions, bytes.as_ptr(), wire_len, bytes.len() as u32) };
        accepted != 0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: the program was filled by pcap_compile and is not used again.
        #[allow(unsafe_code)]
        unsafe {
            (self.library.free_code)(&raw mut self.raw);
        }
    }
}
