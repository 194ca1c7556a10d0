use std::{path::Path, process::ExitCode};

use forefend_domain::Weight;

use super::{Failure, Output};

pub(super) fn check(file: &Path, output: Output) -> ExitCode {
    let problems = match forefend_config::load(file) {
        Ok(config) => match crate::engine::check_blueprints(&config) {
            Ok(()) => {
                match output {
                    Output::Table => {
                        for hint in config.hints() {
                            println!("hint: {hint}");
                        }
                        println!(
                            "{} is fine: {} services, {} cells",
                            file.display(),
                            config.services.len(),
                            config.cells().len()
                        );
                    }
                    Output::Json => {
                        println!("{}", serde_json::json!({ "problems": [], "hints": config.hints() }))
                    }
                }
                return ExitCode::SUCCESS;
            }
            Err(error) => {
                match output {
                    Output::Table => eprintln!("error: {error}"),
                    Output::Json => {
                        let what = error.to_string();
                        println!(
                            "{}",
                            serde_json::json!({ "problems": [{ "file": file, "what": what }], "left_out": 0 })
                        );
                    }
                }
                return ExitCode::FAILURE;
            }
        },
        Err(problems) => problems,
    };
    match output {
        Output::Table => eprintln!("{problems}"),
        Output::Json => println!("{}", problems.to_json()),
    }
    ExitCode::FAILURE
}

pub(super) fn schema() -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(&forefend_config::schema())?);
    Ok(())
}

/// A share of traffic as people write it: `25%`, `2.5%`.
pub(super) fn percent(text: &str) -> Result<Weight, String> {
    let number = text
        .strip_suffix('%')
        .and_then(|n| n.trim().parse::<f64>().ok())
        .filter(|n| (0.0..=100.0).contains(n));
    number
        .map(|n| Weight::from_share(n / 100.0))
        .ok_or_else(|| format!("`{text}` is not a share: write it like `25%`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_need_their_unit() {
        assert_eq!(percent("25%").map(Weight::bp), Ok(2_500));
        assert_eq!(percent("2.5 %").map(Weight::bp), Ok(250));
        for wrong in ["25", "101%", "-1%", "%", "a%", "NaN%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
