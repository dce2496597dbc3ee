//! Command-line options, the same set for every task.

use anyhow::{Context, Result, bail};

/// What the caller asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Install without asking.
    pub yes: bool,
    /// Leave the demo running.
    pub keep: bool,
    /// Optimised build.
    pub release: bool,
    /// The long test corpora.
    pub full: bool,
    /// Print usage only.
    pub help: bool,
    /// Seconds per cell of the benchmark table.
    pub seconds: u32,
    /// Rounds per cell, alternating between peers.
    pub rounds: u32,
    /// One part of the benchmarks only.
    pub only: Option<String>,
    /// Where images are loaded.
    pub load: Option<String>,
    /// The registry, with a path, that images are pushed to.
    pub push: Option<String>,
}

impl Options {
    /// Reads flags; an unknown one is an error.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options> {
        let mut options = Options {
            yes: false,
            keep: false,
            release: false,
            full: false,
            help: false,
            seconds: 3,
            rounds: 3,
            only: None,
            load: None,
            push: None,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--yes" | "-y" => options.yes = true,
                "--keep" => options.keep = true,
                "--release" => options.release = true,
                "--full" => options.full = true,
                "--help" | "-h" => options.help = true,
                "--seconds" => options.seconds = number("--seconds", arguments.next())?,
                "--rounds" => options.rounds = number("--rounds", arguments.next())?,
                "--only" => {
                    let part = arguments.next().context("--only needs a value")?;
                    if !["pgbench", "rows", "http", "micro", "cluster"].contains(&part.as_str()) {
                        bail!("--only takes pgbench, rows, http, micro or cluster, not {part:?}");
                    }
                    options.only = Some(part);
                }
                "--load" => {
                    let place = arguments.next().context("--load needs a value")?;
                    if !["kind", "containerd"].contains(&place.as_str()) {
                        bail!("--load takes kind or containerd, not {place:?}");
                    }
                    options.load = Some(place);
                }
                "--push" => {
                    options.push = Some(arguments.next().context("--push needs a registry")?);
                }
                other => bail!("unknown option {other:?}; see --help"),
            }
        }
        Ok(options)
    }
}

fn number(flag: &str, value: Option<String>) -> Result<u32> {
    let value = value.with_context(|| format!("{flag} needs a number"))?;
    match value.parse() {
        Ok(0) | Err(_) => bail!("{flag} takes a number from 1, not {value:?}"),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::Options;

    fn parse(line: &str) -> anyhow::Result<Options> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn an_unknown_flag_is_refused_by_name() {
        let error = parse("--yes --kepp").map(|_| ()).map_err(|e| e.to_string());
        assert_eq!(
            error,
            Err("unknown option \"--kepp\"; see --help".to_owned())
        );
    }

    #[test]
    fn numbers_are_checked() {
        assert!(parse("--seconds 0").is_err());
        assert!(parse("--seconds").is_err());
        assert!(matches!(
            parse("--seconds 7"),
            Ok(Options { seconds: 7, .. })
        ));
    }
}
