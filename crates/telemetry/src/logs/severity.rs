/// How bad a program says a line is. The eight levels of syslog (RFC 5424 §6.2.1) and the words of other programs in five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// For developers: debug, trace, verbose.
    Debug,
    /// What happens: info, notice, PostgreSQL's `LOG`.
    Info,
    /// warn, warning.
    Warning,
    /// err, error, severe.
    Error,
    /// It can't go on: emerg, alert, crit, fatal, panic.
    Critical,
}

impl Severity {
    /// All of them, mildest first.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// By the word of a program, in upper or lower case.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        const LONGEST: usize = 16;
        if word.len() > LONGEST {
            return None;
        }
        match word.to_ascii_lowercase().as_str() {
            "trace" | "debug" | "dbg" | "verbose" | "fine" | "finer" | "finest" | "debug1" | "debug2"
            | "debug3" | "debug4" | "debug5" => Some(Self::Debug),
            "info" | "information" | "informational" | "notice" | "note" | "inf" => Some(Self::Info),
            "warn" | "warning" | "wrn" => Some(Self::Warning),
            "err" | "error" | "severe" => Some(Self::Error),
            "crit" | "critical" | "fatal" | "panic" | "alert" | "emerg" | "emergency" => Some(Self::Critical),
            _ => None,
        }
    }

    /// By the number of syslog, 0 to 7.
    #[must_use]
    pub fn of_syslog(number: u8) -> Option<Self> {
        match number {
            0..=2 => Some(Self::Critical),
            3 => Some(Self::Error),
            4 => Some(Self::Warning),
            5 | 6 => Some(Self::Info),
            7 => Some(Self::Debug),
            _ => None,
        }
    }

    /// By the number that bunyan and pino write: 10 to 60.
    #[must_use]
    pub fn of_tens(number: u64) -> Option<Self> {
        match number {
            10 | 20 => Some(Self::Debug),
            30 => Some(Self::Info),
            40 => Some(Self::Warning),
            50 => Some(Self::Error),
            60 => Some(Self::Critical),
            _ => None,
        }
    }
}
