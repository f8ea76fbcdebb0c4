// Package signature says whether a root hash was signed with a key that the administrator trusts: PKCS#7, detached,
// over the root hash in lower case hex, as systemd-repart(8) and "openssl smime -sign -noattr -binary" make it.
//
// # Contract
//
// [Verify] takes exactly what those write, in DER, and nothing around it: one signer, named by issuer and serial
// number, no attributes, SHA-256, SHA-384 or SHA-512 with RSA (PKCS #1 v1.5) or ECDSA. Certificates in the signature
// are not looked at: the signer's must be one of those given to Verify. As in systemd there is no chain: a certificate
// is trusted because it is in the directory, and one that it has issued is not. Unlike systemd and the kernel, Verify
// refuses a certificate that has expired, or that says that it is for something else than signing.
//
// [Load] reads the certificates of a list of directories, as systemd does: verity.d/*.crt, where a file in an earlier
// directory takes the place of one with the same name in a later one.
//
// [ParseJSON] reads the content of a signature partition. [Sign] and [JSON] write what these take.
//
// Why no library: what these rules leave of PKCS#7 is one structure that encoding/asn1 reads. Those that there are
// take BER and bytes behind the end, and trust the certificates inside, all of which would have to be caught first.
//
// # Threads
//
// Load looks up its paths on the calling thread, which may sit in another mount namespace.
//
// # Not for
//
// What a policy makes of a signature; finding them; reading keys.
package signature
