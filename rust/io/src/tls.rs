//! rustls configurations: trust, pinning, client certificates.

use std::{path::Path, sync::Arc};

use rustls::{
    CipherSuite, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
};

use crate::{
    certificate::sha256,
    cipher_suites,
    config::{ClientConfig, CommonConfig, ServerConfig, VerifyMode},
    error::TlsConfigError,
    resumption,
    stats::Counter,
};

/// rustls' configuration of a client.
pub(crate) fn client(config: &ClientConfig) -> Result<rustls::ClientConfig, TlsConfigError> {
    let provider = provider();
    let (verifier, resumption) = resumption::of_client(server_verifier(config, &provider)?);
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setting)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut tls = match identity(&config.common)? {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(setting)?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = alpn(&config.common);
    tls.resumption = resumption;
    Ok(tls)
}

/// Whether a server asks its clients for certificates.
pub(crate) fn asks_clients(common: &CommonConfig) -> bool {
    match common.verify_mode {
        VerifyMode::None => false,
        VerifyMode::Optional => common.ca_certs.is_some(),
        VerifyMode::Required => true,
    }
}

/// The cryptography of both sides.
///
/// A client's first choice decides, and rustls' own is AES-256 with SHA-384. AES-128 with SHA-256 is what browsers choose:
/// a third less work for each byte, and for each handshake, as CPUs have instructions for SHA-256 and not for SHA-384.
fn provider() -> Arc<CryptoProvider> {
    let mut cipher_suites = cipher_suites::all();
    cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(CryptoProvider {
        cipher_suites,
        ..aws_lc_rs::default_provider()
    })
}

/// rustls' configuration of a server, which counts resumed handshakes.
pub(crate) fn server(config: &ServerConfig, resumed: &Arc<Counter>) -> Result<rustls::ServerConfig, TlsConfigError> {
    let provider = provider();
    let common = &config.common;
    let Some((chain, key)) = identity(common)? else {
        return Err(TlsConfigError::Setting(
            "a server needs certfile and keyfile; ServerConfig.create_for_development() makes a throw-away pair".into(),
        ));
    };
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setting)?;
    let builder = match (common.verify_mode, &common.ca_certs) {
        (VerifyMode::None, _) | (VerifyMode::Optional, None) => builder.with_no_client_auth(),
        (VerifyMode::Required, None) => {
            return Err(TlsConfigError::Setting(
                "verify_mode CERT_REQUIRED needs ca_certs to check client certificates".into(),
            ));
        }
        (mode, Some(path)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(path)?), provider);
            let verifier = if mode == VerifyMode::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            builder.with_client_cert_verifier(
                verifier
                    .build()
                    .map_err(|error| TlsConfigError::Setting(error.to_string()))?,
            )
        }
    };
    let certfile = common.certfile.clone().unwrap_or_default();
    let mut tls = builder
        .with_single_cert(chain, key)
        .map_err(|error| TlsConfigError::Unusable {
            what: "certificate",
            path: certfile,
            reason: error.to_string(),
        })?;
    tls.alpn_protocols = alpn(common);
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    if asks_clients(common) {
        tls.send_tls13_tickets = 0;
    } else {
        tls.ticketer = resumption::of_server(resumed.clone()).map_err(setting)?;
    }
    Ok(tls)
}

fn server_verifier(
    config: &ClientConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsConfigError> {
    if !config.certificate_hashes.is_empty() {
        return Ok(Arc::new(Pinned {
            hashes: config.certificate_hashes.clone(),
            provider: provider.clone(),
        }));
    }
    if config.common.verify_mode == VerifyMode::None {
        return Ok(Arc::new(Unverified {
            provider: provider.clone(),
        }));
    }
    match &config.common.ca_certs {
        Some(path) => {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path)?), provider.clone()).build();
            Ok(verifier.map_err(|error| TlsConfigError::Setting(error.to_string()))?)
        }
        None => Ok(Arc::new(
            rustls_platform_verifier::Verifier::new(provider.clone()).map_err(setting)?,
        )),
    }
}

fn alpn(common: &CommonConfig) -> Vec<Vec<u8>> {
    common
        .alpn_protocols
        .iter()
        .map(|name| name.clone().into_bytes())
        .collect()
}

fn identity(
    common: &CommonConfig,
) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, TlsConfigError> {
    let (Some(certfile), Some(keyfile)) = (&common.certfile, &common.keyfile) else {
        return Ok(None);
    };
    let pem = read("certificate", certfile)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| unusable("certificate", certfile, &error))?;
    if chain.is_empty() {
        return Err(unusable("certificate", certfile, &"it holds no PEM certificate"));
    }
    let pem = read("private key", keyfile)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unusable("private key", keyfile, &error))?;
    Ok(Some((chain, key)))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsConfigError> {
    let pem = read("CA file", path)?;
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| unusable("CA file", path, &error))?;
        store
            .add(certificate)
            .map_err(|error| unusable("CA file", path, &error))?;
    }
    if store.is_empty() {
        return Err(unusable("CA file", path, &"it holds no PEM certificate"));
    }
    Ok(store)
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    std::fs::read(path).map_err(|error| TlsConfigError::Unreadable {
        what,
        path: path.into(),
        error: Arc::new(error),
    })
}

fn unusable(what: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsConfigError {
    TlsConfigError::Unusable {
        what,
        path: path.into(),
        reason: reason.to_string(),
    }
}

fn setting(error: rustls::Error) -> TlsConfigError {
    TlsConfigError::Setting(error.to_string())
}

/// Accepts exactly the certificates whose SHA-256 is known, as browsers do with `serverCertificateHashes`.
#[derive(Debug)]
struct Pinned {
    hashes: Vec<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

/// Accepts everything: `verify_mode=CERT_NONE`, for development only.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

/// Both check that the peer owns the key of the certificate it shows; they differ in which certificates they accept.
macro_rules! signature_checks {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls12_signature(
                message,
                certificate,
                signature,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            verify_tls13_signature(
                message,
                certificate,
                signature,
                &self.provider.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider
                .signature_verification_algorithms
                .supported_schemes()
        }
    };
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.hashes.contains(&sha256(end_entity)) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        ))
    }

    signature_checks!();
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    signature_checks!();
}

/// What to do about a certificate that TLS refused; `host` is the name that was asked for.
pub(crate) fn explain(error: &str, host: &str) -> String {
    let advice = if error.contains("NotValidForName") || error.contains("not valid for name") {
        format!(
            "the certificate does not cover '{host}': connect by a name it covers, or pass server_certificate_hashes=[...]"
        )
    } else if error.contains("UnknownIssuer") {
        "its issuer is not trusted: pass ca_certs=... or server_certificate_hashes=[...]".into()
    } else if error.contains("BadSignature") {
        "an issuer of this name is trusted, but with another key: after a renewal pass the new ca_certs=... or \
         server_certificate_hashes=[...]"
            .into()
    } else if error.contains("Expired") || error.contains("expired") {
        "it has expired: renew it on the server".into()
    } else if error.contains("NotValidYet") || error.contains("not valid yet") {
        "it is not valid yet: compare the clocks".into()
    } else if error.contains("ApplicationVerificationFailure") || error.contains("certificate verification error") {
        "its SHA-256 is not among server_certificate_hashes".into()
    } else {
        "pass ca_certs=... or server_certificate_hashes=[...] to trust it".into()
    };
    format!("certificate of '{host}' was refused ({error}): {advice}")
}
