//! What happens where a mapped file becomes shorter, or the disk fails: not the end of the process, but a note.
//!
//! The system then sends SIGBUS to the thread that touches such a page. The handler puts zeros in place of what is lost and
//! notes the range, and the thread goes on. Whoever uses mapped bytes asks [`is_lost`] afterwards, and throws away what it made
//! of them. Wayland's compositors read their clients' memory the same way.
//!
//! The handler may neither lock nor allocate, so the ranges that are watched are a list of atomics that only ever grows, to as
//! many places as were in use at one time.

use std::io::Error;
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize};

/// Watches a range for as long as it lives.
#[derive(Debug)]
pub(super) struct Watch {
    place: &'static Place,
}

/// A range of addresses, or room for one.
#[derive(Debug, Default)]
struct Place {
    is_taken: AtomicBool,
    start: AtomicUsize,
    /// Written last and cleared first, so that no half of a range is ever found.
    end: AtomicUsize,
    is_lost: AtomicBool,
    next: AtomicPtr<Place>,
}

/// All places, the newest first.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(null_mut());
/// Whether anything was lost since the process began; most never need to look further.
static ANY_LOST: AtomicBool = AtomicBool::new(false);
static PAGE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// What SIGBUS did before, or why it cannot be taken over.
static PREVIOUS: OnceLock<Result<libc::sigaction, i32>> = OnceLock::new();

impl Watch {
    /// `map` must be a map of its own, which outlives the watch.
    ///
    /// # Errors
    /// When the system takes no handler.
    pub(super) fn begin(map: &[u8]) -> Result<Watch, Error> {
        install()?;
        Ok(Watch::take(map))
    }

    fn take(map: &[u8]) -> Watch {
        let taken = places().find(|place| !place.is_taken.load(Relaxed) && !place.is_taken.swap(true, Acquire));
        let place = taken.unwrap_or_else(new_place);
        place.is_lost.store(false, Relaxed);
        place.start.store(map.as_ptr().addr(), Relaxed);
        place.end.store(map.as_ptr().addr() + map.len(), Release);
        Watch { place }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.place.end.store(0, Relaxed);
        self.place.is_taken.store(false, Release);
    }
}

/// Whether some of the map that these bytes are part of was lost until now. Other memory never is.
pub(crate) fn is_lost(bytes: &[u8]) -> bool {
    ANY_LOST.load(Acquire) && place_of(bytes.as_ptr().addr()).is_some_and(|place| place.is_lost.load(Acquire))
}

fn places() -> impl Iterator<Item = &'static Place> {
    // SAFETY: Places are leaked, so a pointer to one is valid for ever; the last one's next is null.
    let reference = |pointer: *mut Place| unsafe { pointer.as_ref() };
    std::iter::successors(reference(PLACES.load(Acquire)), move |place| reference(place.next.load(Acquire)))
}

fn place_of(address: usize) -> Option<&'static Place> {
    // The end first: whoever sees it sees the start as well.
    places().find(|place| address < place.end.load(Acquire) && place.start.load(Relaxed) <= address)
}

/// A place that is taken, at the head of the list.
fn new_place() -> &'static Place {
    let place = Box::leak(Box::new(Place { is_taken: true.into(), ..Place::default() }));
    let place: &'static Place = place;
    let mut head = PLACES.load(Acquire);
    loop {
        place.next.store(head, Relaxed);
        match PLACES.compare_exchange_weak(head, std::ptr::from_ref(place).cast_mut(), AcqRel, Acquire) {
            Ok(_) => return place,
            Err(other) => head = other,
        }
    }
}

/// Takes SIGBUS over, once.
fn install() -> Result<(), Error> {
    match PREVIOUS.get_or_init(take_over) {
        Ok(_) => Ok(()),
        Err(code) => Err(Error::from_raw_os_error(*code)),
    }
}

/// What SIGBUS did before, or the system's error.
fn take_over() -> Result<libc::sigaction, i32> {
    let failed = || Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_bus_error;
    // SAFETY: `sysconf` has no conditions; zeros are a valid `sigaction`, which the call only reads and writes. The handler
    // keeps to what a signal handler may do.
    unsafe {
        let page_bytes = libc::sysconf(libc::_SC_PAGESIZE);
        PAGE_BYTES.store(usize::try_from(page_bytes).map_err(|_| failed())?, Release);
        let mut previous: libc::sigaction = std::mem::zeroed();
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        let result = libc::sigaction(libc::SIGBUS, &raw const action, &raw mut previous);
        if result == 0 { Ok(previous) } else { Err(failed()) }
    }
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: The system hands over the information of this signal.
    let address = unsafe { (*info).si_addr() }.addr();
    let is_ours = place_of(address).is_some_and(|place| {
        let start = address - address % PAGE_BYTES.load(Relaxed);
        let length = place.end.load(Relaxed) - start;
        place.is_lost.store(true, Release);
        ANY_LOST.store(true, Release);
        // SAFETY: The pages from here to the end of the range belong to a map that outlives its watch, and nothing writes to them.
        // What replaces them is readable as well.
        let zeros = unsafe {
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::without_provenance_mut(start), length, libc::PROT_READ, flags, -1, 0)
        };
        zeros != libc::MAP_FAILED
    });
    if !is_ours {
        pass_on(signal, info, context);
    }
}

/// Does what SIGBUS did before.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.get().and_then(|action| action.as_ref().ok());
    let is_function = |action: &&libc::sigaction| ![libc::SIG_DFL, libc::SIG_IGN].contains(&action.sa_sigaction);
    let Some(previous) = previous.filter(is_function) else {
        // SAFETY: The faulting instruction is tried again, and then ends the process as if nobody had interfered.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // SAFETY: The action was set for this signal by someone who gave a function of the kind that its flags say.
    unsafe {
        if previous.sa_flags & libc::SA_SIGINFO == 0 {
            std::mem::transmute::<usize, extern "C" fn(libc::c_int)>(previous.sa_sigaction)(signal);
        } else {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            std::mem::transmute::<usize, Handler>(previous.sa_sigaction)(signal, info, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapOptions;

    #[test]
    fn each_watch_has_a_place_of_its_own_and_places_are_used_again() {
        let maps: Vec<u8> = vec![0; 3];
        std::thread::scope(|scope| {
            for byte in maps.chunks(1) {
                scope.spawn(|| {
                    for _ in 0..3 {
                        let watch = Watch::take(byte);
                        let found = place_of(byte.as_ptr().addr()).expect("it is watched");
                        assert!(std::ptr::eq(found, watch.place) && !found.is_lost.load(Acquire));
                    }
                });
            }
        });
        assert!(maps.chunks(1).all(|byte| place_of(byte.as_ptr().addr()).is_none()));
    }

    #[test]
    #[cfg_attr(miri, ignore = "it has neither maps of files nor signals")]
    fn a_file_that_becomes_shorter_reads_as_zeros_and_is_noted() {
        let page = 65536; // A multiple of every system's page.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs_err::write(&path, vec![7; 4 * page]).unwrap();
        let file = fs_err::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let map = |at: usize| {
            let options = MmapOptions::new().offset(at as u64).len(2 * page).to_owned();
            // SAFETY: Nothing else uses the file.
            unsafe { options.map_copy_read_only(&file) }.unwrap()
        };
        let (whole, cut) = (map(0), map(2 * page));
        let (whole_watch, cut_watch) = (Watch::begin(&whole).unwrap(), Watch::begin(&cut).unwrap());
        file.set_len(3 * page as u64).unwrap();
        assert_eq!((cut[page - 1], is_lost(&cut)), (7, false), "nobody has touched the lost part yet");
        assert_eq!((cut[page], cut[2 * page - 1], cut[0]), (0, 0, 7));
        assert!(is_lost(&cut) && is_lost(&cut[..1]) && !is_lost(&whole) && whole.iter().all(|&byte| byte == 7));
        drop((whole_watch, cut_watch));
        assert!(!is_lost(&cut), "nothing is watched any more");
        let again = map(0);
        let watch = Watch::begin(&again).unwrap();
        assert!(!is_lost(&again) && places().any(|place| std::ptr::eq(place, watch.place)));
    }
}
