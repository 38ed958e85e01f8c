//! What runs in the machines of the Docker test. It is compiled by the test itself, static and with nothing but std.

use std::{
    ffi::{CString, c_char, c_int, c_ulong, c_void},
    fs,
    ptr::null,
};

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn _exit(code: c_int) -> !;
    fn pause() -> c_int;
    fn mount(source: *const c_char, target: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void)
    -> c_int;
}

const SIGTERM: c_int = 15;
const MS_REMOUNT_BIND: c_ulong = 32 | 4096;
const MS_SHARED_REC: c_ulong = (1 << 20) | 16384;

extern "C" fn stop(_: c_int) {
    unsafe { _exit(0) }
}

fn main() {
    let handler: extern "C" fn(c_int) = stop;
    unsafe { signal(SIGTERM, handler as usize) };
    if std::env::args().nth(1).as_deref() == Some("balancer") {
        balancer();
    } else if fs::read_to_string("/proc/self/cmdline").is_ok() {
        machine();
    }
    loop {
        unsafe { pause() };
    }
}

/// Counts its boots on its disk and, when told to, tries what a node does first.
fn machine() {
    let boots: u32 = fs::read_to_string("/data/boots").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    fs::write("/data/boots", (boots + 1).to_string()).expect("the volume can be written");
    if std::env::var_os("PROBE").is_some() {
        probe();
    }
    println!("boot {}", boots + 1);
}

fn probe() {
    println!("hostname {}", fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim());
    println!("shared root: {}", mounted("none", "/", "", MS_SHARED_REC));
    println!("sysctl: {}", fs::write("/proc/sys/net/ipv4/ip_forward", "1").is_ok());
    fs::create_dir_all("/run/proc").expect("/run is writable");
    println!("nested proc: {}", mounted("proc", "/run/proc", "proc", 0));
    fs::create_dir_all("/run/overlay/l").expect("/run is writable");
    println!("kmsg: {}", fs::File::open("/dev/kmsg").is_ok());
    let memory = if fs::metadata("/sys/fs/cgroup/memory").is_ok() { "/sys/fs/cgroup/memory" } else { "/sys/fs/cgroup" };
    println!("cgroup writable: {}", mounted("none", memory, "", MS_REMOUNT_BIND));
    println!("cgroup nested: {}", fs::create_dir(format!("{memory}/nested")).is_ok());
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    println!("open files: {}", files.and_then(|rest| rest.split_whitespace().next()).unwrap_or("unknown"));
    println!("tmpfs: {}", fs::write("/tmp/file", "x").is_ok());
}

fn mounted(source: &str, target: &str, kind: &str, flags: c_ulong) -> bool {
    let [source, target, kind] = [source, target, kind].map(|text| CString::new(text).expect("no NUL"));
    unsafe { mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, null()) == 0 }
}

/// Shows in its directory what it may do.
fn balancer() {
    let low_port = std::net::TcpListener::bind("127.77.66.55:80").is_ok();
    let read_only = fs::write("/etc-file", "x").is_err();
    let report = format!("low port: {low_port}\nread-only root: {read_only}\n");
    fs::write("/var/lib/sampan-balancer/report.new", report).expect("the directory can be written");
    fs::rename("/var/lib/sampan-balancer/report.new", "/var/lib/sampan-balancer/report").expect("renaming works");
}
