//! `compute_ctl completions`, and the short forms `plan` and `sample-config`.

use tokio::process::Command;

use crate::support::process::{check, client, program};

#[tokio::test]
async fn bash_completes_commands_and_flags() {
    let script = client(&["completions", "bash"]).await;
    assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{script:?}");
    let completed = |words: &str, index: u8| {
        let words = words.to_owned();
        async move {
            let text = format!(
                "eval \"$({} completions bash)\"; COMP_WORDS=({words}); COMP_CWORD={index}; \
                 _compute_ctl compute_ctl \"${{COMP_WORDS[{index}]}}\" x; echo \"${{COMPREPLY[@]}}\"",
                program().display()
            );
            let output = Command::new("bash").args(["-euc", &text]).output().await.unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        }
    };
    assert_eq!(completed("compute_ctl tok", 1).await, "token\n");
    assert_eq!(completed("compute_ctl dev --verb", 2).await, "--verbose\n");
}

#[tokio::test]
async fn each_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = client(&["completions", shell]).await;
        assert_eq!(script.code, Some(0), "{shell}: {script:?}");
        assert!(script.stdout.contains("sample-config"), "{shell}");
    }
    assert_eq!(client(&["completions", "command.com"]).await.code, Some(2));
}

#[tokio::test]
async fn the_sample_is_that_of_check() {
    let sample = client(&["sample-config"]).await;
    assert_eq!(sample.code, Some(0), "{sample:?}");
    assert_eq!(sample.stdout, check(&["--sample"]).await.good());
}
