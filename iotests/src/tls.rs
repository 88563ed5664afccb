//! Certificates for TLS servers and clients, made by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::test::Test;
use crate::tool::framed;

/// A certificate authority: its key and certificate, in a directory.
pub struct Authority {
    dir: PathBuf,
}

impl Test {
    /// A certificate authority of this name, in the folder `name` of `TEST_DIR`.
    ///
    /// # Errors
    ///
    /// Fails if `openssl` cannot make it.
    pub async fn authority(&self, name: &str) -> Result<Authority> {
        let dir = self.path(name);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("failed to make {}", dir.display()))?;
        let authority = Authority { dir };
        let own = [
            "basicConstraints=critical,CA:TRUE",
            "keyUsage=critical,keyCertSign",
        ];
        request(&authority.dir, "ca", name, &own, None).await?;
        Ok(authority)
    }
}

impl Authority {
    /// A server's folder, as `tls-creds-x509,endpoint=server` takes it, inside the
    /// authority's: key and certificate for this host name. Gives its path.
    ///
    /// # Errors
    ///
    /// Fails if `openssl` cannot make it.
    pub async fn server(&self, host: &str) -> Result<PathBuf> {
        let name = format!("subjectAltName=DNS:{host}");
        let dir = self
            .issue(
                "server",
                host,
                &["extendedKeyUsage=critical,serverAuth", &name],
            )
            .await?;
        // Without it QEMU looks for a prime of its own, which takes seconds.
        let group = ["genpkey", "-genparam", "-algorithm", "DH"];
        let mut command = Command::new("openssl");
        command
            .args(group)
            .args(["-pkeyopt", "group:ffdhe2048", "-out"])
            .arg(dir.join("dh-params.pem"));
        finish(command, "a group").await?;
        Ok(dir)
    }

    /// A client's folder, as `tls-creds-x509,endpoint=client` takes it, with a
    /// certificate for this name. Gives its path.
    ///
    /// # Errors
    ///
    /// Fails if `openssl` cannot make it.
    pub async fn client(&self, name: &str) -> Result<PathBuf> {
        self.issue("client", name, &["extendedKeyUsage=critical,clientAuth"])
            .await
    }

    /// The folder of a client that knows the authority and has no certificate.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub fn without_certificate(&self) -> Result<PathBuf> {
        self.folder("nobody")
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)
            .and_then(|()| {
                std::fs::copy(self.dir.join("ca-cert.pem"), dir.join("ca-cert.pem")).map(drop)
            })
            .with_context(|| format!("failed to make {}", dir.display()))?;
        Ok(dir)
    }

    async fn issue(&self, role: &str, name: &str, extensions: &[&str]) -> Result<PathBuf> {
        let dir = self.folder(name)?;
        let mut all = vec![
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature,keyEncipherment",
        ];
        all.extend(extensions);
        request(&dir, role, name, &all, Some(&self.dir)).await?;
        Ok(dir)
    }
}

/// Makes `ROLE-key.pem` and `ROLE-cert.pem`, signed by the authority in `signer` or
/// by itself.
async fn request(
    dir: &Path,
    role: &str,
    name: &str,
    extensions: &[&str],
    signer: Option<&Path>,
) -> Result<()> {
    let mut command = Command::new("openssl");
    command
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "3650",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            &format!("/CN={name}"),
        ])
        .arg("-keyout")
        .arg(dir.join(format!("{role}-key.pem")))
        .arg("-out")
        .arg(dir.join(format!("{role}-cert.pem")));
    for extension in extensions {
        command.args(["-addext", extension]);
    }
    if let Some(signer) = signer {
        command.arg("-CA").arg(signer.join("ca-cert.pem"));
        command.arg("-CAkey").arg(signer.join("ca-key.pem"));
    }
    finish(command, name).await
}

/// Runs `openssl` to its end.
async fn finish(mut command: Command, what: &str) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .await
        .context("failed to start openssl")?;
    ensure!(
        output.status.success(),
        "openssl did not make {what}:\n{}",
        framed(&output.stderr)
    );
    Ok(())
}
