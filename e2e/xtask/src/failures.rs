//! What `cargo test` said of the tests that failed, to be told once more where a reader looks first:
//! at the end, after the output of some thousand tests that passed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Lines shown of one failed test: the message stands in the first ones.
const LINES: usize = 30;
/// Failed tests that are told; of more, only how many.
const TESTS: usize = 20;
/// What is shown of a line, in characters.
const WIDTH: usize = 400;
/// How cargo, and each of its test programs, ends where tests failed.
const FAILED: i32 = 101;
/// How late the output is shown.
const PAUSE: Duration = Duration::from_millis(200);

/// Most tests that are run once more: if it is more, something is broken.
const AGAIN: usize = 3;

/// Runs tests by a command that `with` more arguments makes, output to `log` and to `out` as it comes.
/// The few that fail are run once more without the others: of tests of real servers, clients and
/// kernels on a busy machine, one of a thousand may miss a deadline that it meets alone. Those that
/// pass then are told as what they are, by name and in their words; `Ok` with nothing to tell is all
/// passed at once.
///
/// # Errors
/// Tests that failed, again where they were run again, each in its own words.
pub fn all_passed(
    with: impl Fn(&[String]) -> Command,
    log: &Path,
    mut out: impl Write,
) -> Result<String> {
    let (status, first) = run(&mut with(&[]), log, &mut out)?;
    if status.success() {
        return Ok(String::new());
    }
    let told = first.told();
    if !first.is_worth_another(status) {
        bail!("tests failed ({status}):\n{told}");
    }
    let mut once_more = vec!["--exact".to_owned()];
    once_more.extend(first.names());
    writeln!(out, "\n== once more: {}", once_more.join(" "))?;
    let (status, second) = run(&mut with(&once_more), log, &mut out)?;
    if !status.success() {
        let again = second.told();
        bail!("tests failed twice ({status}):\n{told}\n== once more:\n{again}");
    }
    Ok(format!("UNSTABLE, passed only when run again:\n{told}\n"))
}

fn run(command: &mut Command, log: &Path, mut out: impl Write) -> Result<(ExitStatus, Failures)> {
    // A file and not a pipe, whose end does not come while anything that a test left has it open.
    let file = File::options().create(true).append(true).open(log)?;
    let begin = file.metadata()?.len();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {}", command.get_program().to_string_lossy()))?;
    let mut said = File::open(log)?;
    said.seek(SeekFrom::Start(begin))?;
    let status = loop {
        let ended = child.try_wait()?;
        io::copy(&mut said, &mut out)?;
        if let Some(status) = ended {
            break status;
        }
        std::thread::sleep(PAUSE);
    };
    said.seek(SeekFrom::Start(begin))?;
    let mut failures = Failures::default();
    for line in BufReader::new(said).split(b'\n') {
        failures.line(&String::from_utf8_lossy(&line?));
    }
    Ok((status, failures))
}

/// Reads the output of `cargo test` a line at a time.
#[derive(Debug, Default)]
struct Failures {
    /// The test program that runs, as cargo names it.
    program: String,
    /// One each: whose, which, and its words.
    told: Vec<Failure>,
    left_off: usize,
    inside: bool,
    /// Programs that failed, as cargo counts them; none where it did not run them.
    programs: usize,
    /// What is no failed test: something did not build.
    broken: Vec<String>,
}

#[derive(Debug)]
struct Failure {
    program: String,
    name: String,
    lines: Vec<String>,
    /// What follows is a backtrace.
    said: bool,
}

impl Failures {
    fn line(&mut self, line: &str) {
        let text = line.trim();
        if let Some(program) = text.strip_prefix("Running ") {
            self.program = program.to_owned();
            self.inside = false;
        } else if let Some(name) = text
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.inside = self.told.len() < TESTS;
            if self.inside {
                self.told.push(Failure {
                    program: self.program.clone(),
                    name: name.to_owned(),
                    lines: Vec::new(),
                    said: false,
                });
            } else {
                self.left_off += 1;
            }
        } else if text == "failures:" {
            self.inside = false;
        } else if self.inside {
            let Some(failure) = self.told.last_mut() else {
                return;
            };
            // Where it came from is said by its words.
            failure.said |= text.eq_ignore_ascii_case("stack backtrace:");
            if !failure.said && failure.lines.len() < LINES && !text.is_empty() {
                failure.lines.push(text.chars().take(WIDTH).collect());
            }
        } else if text.starts_with("error: test failed, to rerun pass ") {
            self.programs += 1;
        } else if self.is_broken(text) && self.broken.len() < TESTS {
            self.broken.push(text.chars().take(WIDTH).collect());
        }
    }

    /// In cargo's words: what does not build, and what ended otherwise than as tests end.
    fn is_broken(&self, text: &str) -> bool {
        let counted = text.ends_with(" target failed:") || text.ends_with(" targets failed:");
        text.starts_with("process didn't exit successfully")
            || text.starts_with("error: ") && !counted
    }

    /// They are few, and nothing failed that is no test: a program that a signal ends names none.
    fn is_worth_another(&self, status: ExitStatus) -> bool {
        let mut programs: Vec<&str> = self.told.iter().map(|one| one.program.as_str()).collect();
        programs.dedup();
        let named = self.programs == 0 || self.programs == programs.len();
        let few = (1..=AGAIN).contains(&self.told.len());
        status.code() == Some(FAILED) && few && named && self.broken.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.told.iter().map(|failure| failure.name.clone())
    }

    fn told(&self) -> String {
        let mut told = self.broken.clone();
        for Failure {
            program,
            name,
            lines,
            ..
        } in &self.told
        {
            told.push(format!("{name} ({program})"));
            told.extend(lines.iter().map(|line| format!("  {line}")));
        }
        if self.left_off > 0 {
            told.push(format!("and {} more", self.left_off));
        }
        told.join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used, clippy::panic)]
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::{Failures, all_passed};
    use crate::process::{Scratch, succeed};

    const GOOD: &str = "     Running tests/good.rs (target/debug/deps/good-1)\n\
        running 1 test\ntest fine ... ok\n\
        test result: ok. 1 passed; 0 failed\n";
    const BAD: &str = "     Running tests/bad.rs (target/debug/deps/bad-2)\n\
        test broken ... FAILED\ntest fine ... ok\n\nfailures:\n\n\
        ---- broken stdout ----\nError: no answer\n\nCaused by:\n    closed\n\nStack backtrace:\n   0: main\n\n\nfailures:\n    broken\n\n\
        test result: FAILED. 1 passed; 1 failed\n\
        error: test failed, to rerun pass `--test bad`\n";
    const ENDED: &str = "error: 1 target failed:\n    `--test bad`\n";

    /// Says `first`, and `then` when it is asked for something by name; what fails says so.
    fn runs(log: &Path, first: &str, then: &str) -> (Result<String, String>, String) {
        let mut out = Vec::new();
        let result = all_passed(
            |more| {
                let said = match more {
                    [] => first,
                    [exact, name] => {
                        assert_eq!((exact.as_str(), name.as_str()), ("--exact", "broken"));
                        then
                    }
                    more => panic!("{more:?}"),
                };
                let code = if said.contains("failed:") { 101 } else { 0 };
                let mut command = Command::new("sh");
                command.args(["-c", &format!("printf %s \"$0\"; exit {code}"), said]);
                command
            },
            log,
            &mut out,
        );
        let out = String::from_utf8(out).expect("text");
        (result.map_err(|error| error.to_string()), out)
    }

    #[test]
    fn a_failed_test_is_told_with_its_words_and_its_program() {
        let scratch = Scratch::new("failures").expect("a folder");
        let log = scratch.path().join("log");
        fs::write(&log, "---- of before stdout ----\n").expect("writes");
        assert_eq!(runs(&log, GOOD, ""), (Ok(String::new()), GOOD.to_owned()));
        let words = "broken (tests/bad.rs (target/debug/deps/bad-2))\n  Error: no answer\n  Caused by:\n  closed";
        let failed = [GOOD, BAD, ENDED].concat();
        let (result, out) = runs(&log, &failed, GOOD);
        let told = result.expect("unstable");
        assert_eq!(
            told,
            format!("UNSTABLE, passed only when run again:\n{words}\n")
        );
        assert_eq!(
            out,
            format!("{failed}\n== once more: --exact broken\n{GOOD}")
        );
        let (result, _) = runs(&log, &failed, &failed);
        let told = result.expect_err("failed twice");
        assert_eq!(told.matches(words).count(), 2, "{told}");
    }

    #[test]
    fn what_does_not_build_or_is_ended_by_a_signal_is_not_tried_again() {
        let scratch = Scratch::new("failures").expect("a folder");
        let log = scratch.path().join("log");
        let killed = "     Running tests/ugly.rs (target/debug/deps/ugly-3)\n\
            error: test failed, to rerun pass `--test ugly`\n\nCaused by:\n  process didn't exit successfully: `ugly` (signal: 11)\n";
        for other in [killed, "error: could not compile `x` (lib)\n"] {
            let failed = [BAD, other, ENDED].concat();
            let (result, _) = runs(&log, &failed, GOOD);
            assert!(result.is_err(), "{other}");
        }
        let (result, _) = runs(&log, &[killed, ENDED].concat(), GOOD);
        let told = result.expect_err("ended");
        assert!(told.contains("signal: 11"), "{told}");
    }

    #[test]
    fn what_a_test_leaves_behind_is_not_waited_for() {
        let scratch = Scratch::new("failures").expect("a folder");
        let left = scratch.path().join("pid");
        let all = all_passed(
            |_| {
                let mut command = Command::new("sh");
                command
                    .args(["-c", "sleep 60 & echo $! >\"$0\""])
                    .arg(&left);
                command
            },
            &scratch.path().join("log"),
            Vec::new(),
        );
        assert_eq!(all.expect("passes"), "");
        let left = fs::read_to_string(left).expect("reads");
        succeed(Command::new("kill").arg(left.trim())).expect("it still runs");
    }

    #[test]
    fn of_very_many_failed_tests_the_first_are_told() {
        let mut failures = Failures::default();
        for number in 0..50 {
            failures.line(&format!("---- test_{number} stdout ----"));
            for _ in 0..100 {
                failures.line(&"x".repeat(10_000));
            }
        }
        let told = failures.told();
        assert!(told.contains("test_19 ") && !told.contains("test_20 "));
        assert!(told.ends_with("and 30 more"), "{told}");
        assert!(told.len() < 20 * 30 * 410);
    }
}
