//! Cleans up after this process however it ends: return, panic, Ctrl-C, kill -9.
//!
//! A small shell in a session of its own reads, from a pipe that only we hold open, which
//! processes and folders are ours. When the pipe closes it ends the one and removes the other.
//! Neither a signal handler nor a destructor could promise that.

use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
pids= dirs= containers=
while IFS= read -r line; do
  what=${line%% *} value=${line#* }
  case $what in
    pid) pids="$pids $value" ;;
    gone) keep=
      for p in $pids; do [ "${p%:*}" = "$value" ] || keep="$keep $p"; done
      pids=$keep ;;
    dir) dirs="$dirs$value
" ;;
    kept) dirs=$(printf %s "$dirs" | grep -Fxv -- "$value"; echo .)
      dirs=${dirs%.}
      containers=$(printf %s "$containers" | grep -Fv -- "$value/"; echo .)
      containers=${containers%.} ;;
    containers) containers="$containers$value
" ;;
    keep) exit 0 ;;
  esac
done
# A zombie with threads is still ending; as process 1 of a namespace it waits for all others there.
alive() {
  [ -d "/proc/$1/task" ] || return 1
  ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null || [ "$(ls "/proc/$1/task" | wc -l)" -gt 1 ]
}
for p in $pids; do kill "-${p#*:}" "${p%:*}" 2>/dev/null; done
for p in $pids; do
  tries=0
  while alive "${p%:*}" && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries+1)); done
  kill -KILL "${p%:*}" 2>/dev/null
done
printf %s "$containers" | while IFS= read -r dir; do
  for container in "$dir"/*; do
    for group in /sys/fs/cgroup/k8s.io/"${container##*/}" /sys/fs/cgroup/*/k8s.io/"${container##*/}"; do
      [ ! -d "$group" ] || rmdir "$group" || { sleep 0.3; rmdir "$group"; }
    done
  done
done
printf %s "$dirs" | while IFS= read -r dir; do
  rm -rf -- "$dir" || { sleep 0.3; rm -rf -- "$dir"; }
done
"#;

static JANITOR: OnceLock<Option<Mutex<ChildStdin>>> = OnceLock::new();

/// Ends the process `pid` by `signal` (a name: `QUIT`, `KILL`) when we are gone.
pub fn owns_process(pid: u32, signal: &str) {
    tell(&format!("pid {pid}:{signal}\n"));
}

/// The process `pid` has ended and been reaped; its number may be another's now.
pub fn process_is_gone(pid: u32) {
    tell(&format!("gone {pid}\n"));
}

/// Removes the folder `path` when we are gone. `path` is one this process made.
pub fn owns_folder(path: &Path) {
    tell(&format!("dir {}\n", path.display()));
}

/// The folder `path` outlives us after all.
pub fn keeps_folder(path: &Path) {
    tell(&format!("kept {}\n", path.display()));
}

/// Removes the control groups of the containers that have a folder in `path` when we are gone.
pub fn owns_containers(path: &Path) {
    tell(&format!("containers {}\n", path.display()));
}

/// Leaves everything as it is when we go (`cargo demo --keep`).
pub fn keep_all() {
    tell("keep \n");
}

fn tell(line: &str) {
    let Some(pipe) = JANITOR.get_or_init(hire) else {
        return;
    };
    let mut pipe = pipe.lock().unwrap_or_else(PoisonError::into_inner);
    // A janitor that is gone leaves clean-up to destructors, as without one.
    let _ = pipe.write_all(line.as_bytes()).and_then(|()| pipe.flush());
}

fn hire() -> Option<Mutex<ChildStdin>> {
    // setsid: the terminal's Ctrl-C must not reach it.
    let mut child = Command::new("setsid")
        .args(["sh", "-c", SCRIPT, "janitor"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .spawn()
        .ok()?;
    child.stdin.take().map(Mutex::new)
}
