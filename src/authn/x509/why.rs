//! Why a chain is refused, in words for the log.

/// A CA of no name here, or of the right name and the wrong key.
pub(super) fn is_unknown(error: &webpki::Error) -> bool {
    matches!(error, webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey)
}

/// For the log; webpki's own words are the names of its variants.
pub(super) fn describe(error: &webpki::Error) -> String {
    use webpki::Error::*;
    let words = match error {
        error if is_unknown(error) => "signed by an unknown authority",
        CertExpired { .. } => "a certificate of the chain has expired",
        CertNotValidYet { .. } => "a certificate of the chain is not yet valid",
        CaUsedAsEndEntity => "a CA's own certificate is not accepted as a client certificate",
        EndEntityUsedAsCa => "a certificate of the chain may not sign others",
        UnsupportedCertVersion => "not a certificate of version 3",
        RequiredEkuNotFoundContext(_) => {
            "the extended key usage of the chain does not allow client authentication"
        }
        EmptyEkuExtension => "an extended key usage of the chain is empty",
        PathLenConstraintViolated => "a CA of the chain does not allow so many CAs below it",
        NameConstraintViolation => "a name in it is outside the name constraints of a CA of the chain",
        UnsupportedCriticalExtension => "a critical extension of the chain is not understood",
        UnsupportedSignatureAlgorithmContext(_) | UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "signed with an algorithm or a kind of key that is not accepted"
        }
        CertRevoked => "a certificate of the chain has been revoked",
        CrlExpired { .. } => "the revocation list of a CA of the chain has expired",
        InvalidCrlSignatureForPublicKey => {
            "the revocation list in the name of a CA of the chain is not signed by that CA"
        }
        IssuerNotCrlSigner => "a CA of the chain may not sign the revocation list it has",
        other => return format!("cannot be verified: {other}"),
    };
    words.to_owned()
}
