//! kubectl on a terminal, and outputs in which detectors find something.

use anyhow::Result;
use chaperone_e2e::cluster::chaperone::DATABASES;
use chaperone_e2e::cluster::{Kubectl, unavailable};
use serde_json::Value;

use super::{Desk, desk};

/// kubectl on a terminal of its own: types `stty size`, changes the terminal's size, types it again.
const TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp('kubectl', ['kubectl', 'exec', '-it', sys.argv[1], '--', 'sh', '-c', 'exec sh -i # on-a-terminal'])
def size(rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
seen = b''
def until(text):
    global seen
    end = time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < end, seen
        try:
            seen += os.read(fd, 4096)
        except OSError:
            break
size(30, 100)
until(b'$ ')
for rows, columns, word in [(33, 111, 'first'), (44, 122, 'second')]:
    size(rows, columns)
    wanted = f'{rows} {columns}'
    os.write(fd, f"until [ \"$(busybox stty size)\" = '{wanted}' ]; do sleep 0.1; done; echo {word}-$((40+2))\n".encode())
    until(f'{word}-42'.encode())
os.write(fd, b'exit 7\n')
until(b'nothing more')
status = os.waitpid(pid, 0)[1]
print('exit', os.waitstatus_to_exitcode(status))
"#;

fn cast(session: &str) -> Result<Vec<Value>> {
    let words = ["export", session, "--format", "asciicast"];
    let cast = Kubectl::admin().plugin(&words)?.ok()?;
    Ok(cast
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

fn texts(events: &[Value], code: &str) -> Vec<String> {
    let of = events.iter().filter(|event| event[1] == code);
    of.filter_map(|event| event[2].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn a_terminal_and_its_sizes_are_recorded() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let web = desk.web()?;
    let said = desk.ok(&format!(
        "cat >/tmp/terminal.py <<'P'\n{TERMINAL}\nP\npython3 -B /tmp/terminal.py {web}"
    ))?;
    assert_eq!(said, "exit 7\n");
    let (session, shown) = desk.transcript("on-a-terminal")?;
    assert!(shown.contains("exit 7"), "{shown}");
    let replayed = Kubectl::admin().plugin(&["replay", &session])?.ok()?;
    for line in [
        r#"resize: {"Width":111,"Height":33}"#,
        r#"resize: {"Width":122,"Height":44}"#,
        "stdin: exit 7",
    ] {
        assert!(replayed.contains(line), "no {line} in {replayed}");
    }
    let events = cast(&session)?;
    let sizes = texts(&events[1..], "r");
    assert!(sizes.contains(&"111x33".to_owned()), "{sizes:?}");
    assert_eq!(sizes.last().map(String::as_str), Some("122x44"));
    let output = texts(&events[1..], "o").concat();
    assert!(output.contains("second-42"), "{output}");
    Ok(())
}

const SPLIT: &str = "printf 'mail ann@'; sleep 1; printf 'raw.exam'; sleep 1; printf 'ple; '; \
     printf 4111 >&2; sleep 1; printf ' 1111 1111 1111\\n' >&2; echo done; exit 3";

impl Desk {
    /// Detectors on, for all that the agent does.
    fn detect(&self) -> Result<()> {
        let connection = format!("connection/{}-cluster", self.namespace());
        let patch = "spec: {guardrails: {masking: [{name: found, \
                     detectors: [EmailAddress, PaymentCard, PrivateKey], strategy: Redact}]}}";
        let admin = Kubectl::admin().in_namespace(DATABASES);
        admin.ok(&["patch", &connection, "--type=merge", "-p", patch])?;
        // Until the sidecar has it: what a command prints says so.
        self.shop.namespace.until("the masks", || {
            let said = self.sh("kubectl exec deployment/web -- echo ann@raw.example")?;
            Ok((said.code == Some(0) && said.out == "[masked]\n").then_some(()))
        })
    }
}

#[test]
fn what_a_command_prints_is_masked_however_it_is_cut() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = Desk::new("masked")?;
    let web = desk.web()?;
    desk.detect()?;
    let said = desk.sh(&format!("kubectl exec {web} -- sh -c \"{SPLIT}\""))?;
    assert_eq!(said.code, Some(3), "{}", said.all());
    assert_eq!(said.out, "mail [masked]; done\n");
    assert!(said.err.starts_with("[masked]\n"), "{}", said.err);
    // Prompts and whole lines do not wait for more.
    let said = desk.ok(&format!(
        "busybox mkfifo /tmp/typed /tmp/shown; kubectl exec -i {web} -- sh -c 'printf \"name: \"; read n; echo hello $n; read x' \
         </tmp/typed >/tmp/shown & exec 3>/tmp/typed 4</tmp/shown; timeout 60 head -c 6 <&4; echo ann@raw.example >&3; \
         timeout 60 head -n 1 <&4; echo >&3; wait"
    ))?;
    assert_eq!(said, "name: hello [masked]\n");
    let copied = desk.ok(&format!(
        "seq 100000 >/tmp/up && kubectl cp /tmp/up {web}:/tmp/up && kubectl exec {web} -- sh -c 'cat /tmp/up' | busybox cmp - /tmp/up && echo same"
    ));
    assert!(copied.is_ok_and(|said| said.ends_with("same\n")));
    // What could still be the beginning of a secret after 64 KiB ends the command, which kubectl says.
    let endless = "echo fine; echo -----BEGIN PRIVATE KEY-----; yes AAAAAAAAAAAAAAA | head -n 9999";
    let told = desk.refused(
        &format!("timeout 60 kubectl exec {web} -- sh -c '{endless}'"),
        "MaskUnsupported",
    )?;
    assert!(!told.contains("AAAA"), "{told}");
    desk.refused(
        &format!("timeout 20 kubectl port-forward pod/{web} 8098:8099"),
        "MaskUnsupported",
    )?;
    let (session, shown) = desk.transcript("raw.exam")?;
    assert!(shown.contains("exit 3"), "{shown}");
    for side in ["client", "server"] {
        let words = ["replay", &session, "--raw", side];
        let raw = Kubectl::admin().plugin(&words)?.ok()?;
        assert!(!raw.contains("ann@raw.example"), "{side}: {raw}");
    }
    let output = texts(&cast(&session)?[1..], "o").concat();
    assert!(output.contains("mail [masked]; "), "{output}");
    Ok(())
}
