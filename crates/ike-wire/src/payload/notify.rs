//! Notify, payload type 41 (RFC 7296 §3.10).

use bytes::BufMut;

use super::sa::ProtocolId;
use crate::{
    codes::codes,
    reader::{Reader, Truncated},
};

codes! {
    /// Errors (below 16384) and status messages (RFC 7296 §3.10.1 and the extensions named).
    pub enum NotifyType: u16 {
        /// A critical payload was not understood; data: its type.
        UnsupportedCriticalPayload = 1, "UNSUPPORTED_CRITICAL_PAYLOAD";
        /// No such IKE SA.
        InvalidIkeSpi = 4, "INVALID_IKE_SPI";
        /// Version not spoken; header has the highest one that is.
        InvalidMajorVersion = 5, "INVALID_MAJOR_VERSION";
        /// Malformed or out of range; ends the SA.
        InvalidSyntax = 7, "INVALID_SYNTAX";
        /// Message ID outside the window.
        InvalidMessageId = 9, "INVALID_MESSAGE_ID";
        /// ESP packet for an unknown SPI; data: the SPI.
        InvalidSpi = 11, "INVALID_SPI";
        /// Nothing acceptable in the proposals.
        NoProposalChosen = 14, "NO_PROPOSAL_CHOSEN";
        /// Another group is wanted in KE; data: the group.
        InvalidKePayload = 17, "INVALID_KE_PAYLOAD";
        /// The proof or the identity was not accepted.
        AuthenticationFailed = 24, "AUTHENTICATION_FAILED";
        /// Only single addresses can be selected.
        SinglePairRequired = 34, "SINGLE_PAIR_REQUIRED";
        /// No more child SAs on this IKE SA.
        NoAdditionalSas = 35, "NO_ADDITIONAL_SAS";
        /// No address to assign.
        InternalAddressFailure = 36, "INTERNAL_ADDRESS_FAILURE";
        /// A configuration request was required.
        FailedCpRequired = 37, "FAILED_CP_REQUIRED";
        /// No overlap of traffic selectors.
        TsUnacceptable = 38, "TS_UNACCEPTABLE";
        /// Packet outside its SA's selectors.
        InvalidSelectors = 39, "INVALID_SELECTORS";
        /// The addresses cannot be used (RFC 4555).
        UnacceptableAddresses = 40, "UNACCEPTABLE_ADDRESSES";
        /// There is a NAT where none may be (RFC 4555).
        UnexpectedNatDetected = 41, "UNEXPECTED_NAT_DETECTED";
        /// Busy with an exchange that collides; try again.
        TemporaryFailure = 43, "TEMPORARY_FAILURE";
        /// The child SA named does not exist.
        ChildSaNotFound = 44, "CHILD_SA_NOT_FOUND";
        /// A follow-up key exchange that belongs to none that is known (RFC 9370 §2.2.4).
        StateNotFound = 47, "STATE_NOT_FOUND";
        /// First contact: SAs of an earlier life are gone.
        InitialContact = 16384, "INITIAL_CONTACT";
        /// Requests the sender can keep open.
        SetWindowSize = 16385, "SET_WINDOW_SIZE";
        /// More selectors could be had in another SA.
        AdditionalTsPossible = 16386, "ADDITIONAL_TS_POSSIBLE";
        /// IP compression.
        IpcompSupported = 16387, "IPCOMP_SUPPORTED";
        /// Hash of SPIs and source address and port.
        NatDetectionSourceIp = 16388, "NAT_DETECTION_SOURCE_IP";
        /// Hash of SPIs and destination address and port.
        NatDetectionDestinationIp = 16389, "NAT_DETECTION_DESTINATION_IP";
        /// Return routability check.
        Cookie = 16390, "COOKIE";
        /// Transport mode wanted.
        UseTransportMode = 16391, "USE_TRANSPORT_MODE";
        /// Certificates by URL.
        HttpCertLookupSupported = 16392, "HTTP_CERT_LOOKUP_SUPPORTED";
        /// The child SA that is being replaced; SPI: the sender's inbound one.
        RekeySa = 16393, "REKEY_SA";
        /// No traffic flow confidentiality padding.
        EspTfcPaddingNotSupported = 16394, "ESP_TFC_PADDING_NOT_SUPPORTED";
        /// Fragments may come on their own.
        NonFirstFragmentsAlso = 16395, "NON_FIRST_FRAGMENTS_ALSO";
        /// Mobility (RFC 4555).
        MobikeSupported = 16396, "MOBIKE_SUPPORTED";
        /// Further addresses (RFC 4555).
        AdditionalIp4Address = 16397, "ADDITIONAL_IP4_ADDRESS";
        /// Further addresses (RFC 4555).
        AdditionalIp6Address = 16398, "ADDITIONAL_IP6_ADDRESS";
        /// No further addresses any more (RFC 4555).
        NoAdditionalAddresses = 16399, "NO_ADDITIONAL_ADDRESSES";
        /// Use these addresses from now on (RFC 4555).
        UpdateSaAddresses = 16400, "UPDATE_SA_ADDRESSES";
        /// Return routability check in an SA (RFC 4555).
        Cookie2 = 16401, "COOKIE2";
        /// Authenticate again within so many seconds (RFC 4478).
        AuthLifetime = 16403, "AUTH_LIFETIME";
        /// Several authentications (RFC 4739).
        MultipleAuthSupported = 16404, "MULTIPLE_AUTH_SUPPORTED";
        /// Redirection (RFC 5685).
        RedirectSupported = 16406, "REDIRECT_SUPPORTED";
        /// EAP only (RFC 5998).
        EapOnlyAuthentication = 16417, "EAP_ONLY_AUTHENTICATION";
        /// Childless IKE SAs (RFC 6023).
        ChildlessIkev2Supported = 16418, "CHILDLESS_IKEV2_SUPPORTED";
        /// Quick crash detection token (RFC 6290).
        QuickCrashDetection = 16419, "QUICK_CRASH_DETECTION";
        /// Message fragmentation (RFC 7383).
        FragmentationSupported = 16430, "IKEV2_FRAGMENTATION_SUPPORTED";
        /// Hashes usable in signatures; data: their numbers (RFC 7427).
        SignatureHashAlgorithms = 16431, "SIGNATURE_HASH_ALGORITHMS";
        /// Clone of an IKE SA (RFC 7791).
        CloneIkeSaSupported = 16432, "CLONE_IKE_SA_SUPPORTED";
        /// Postquantum preshared keys (RFC 8784).
        UsePpk = 16435, "USE_PPK";
        /// Identity of the postquantum preshared key in use (RFC 8784).
        PpkIdentity = 16436, "PPK_IDENTITY";
        /// A second proof, made without the postquantum preshared key (RFC 8784).
        NoPpkAuth = 16437, "NO_PPK_AUTH";
        /// IKE_INTERMEDIATE is understood (RFC 9242).
        IntermediateExchangeSupported = 16438, "INTERMEDIATE_EXCHANGE_SUPPORTED";
        /// Links a follow-up key exchange to what it is part of; data: the responder's mark (RFC 9370 §2.2.4).
        AdditionalKeyExchange = 16441, "ADDITIONAL_KEY_EXCHANGE";
    }
}

impl NotifyType {
    /// Whether it reports an error (RFC 7296 §3.10.1); unknown errors in a response fail the exchange.
    pub fn is_error(self) -> bool {
        self.code() < 16384
    }
}

/// A notice, perhaps about a particular SA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// The protocol of the SA in question; `ProtocolId::None` when `spi` is empty.
    pub protocol: ProtocolId,
    /// The SA in question.
    pub spi: Vec<u8>,
    /// What is said.
    pub kind: NotifyType,
    /// Its particulars.
    pub data: Vec<u8>,
}

impl Notify {
    /// A notice about the IKE SA itself or about nothing in particular.
    pub fn new(kind: NotifyType, data: impl Into<Vec<u8>>) -> Self {
        Self { protocol: ProtocolId::None, spi: Vec::new(), kind, data: data.into() }
    }

    /// A notice about one ESP SA, named by the SPI its sender receives on.
    pub fn about_esp(kind: NotifyType, spi: net_types::Spi) -> Self {
        Self { protocol: ProtocolId::Esp, spi: spi.get().to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    /// Reads the payload's body.
    pub fn parse(body: &[u8]) -> Result<Self, Truncated> {
        let mut reader = Reader::new(body);
        let protocol = reader.u8()?.into();
        let spi_len = reader.u8()?;
        let kind = reader.u16()?.into();
        let spi = reader.take(usize::from(spi_len))?.to_vec();
        Ok(Self { protocol, spi, kind, data: reader.rest().to_vec() })
    }

    /// Writes the payload's body; an SPI is at most 255 octets long by construction of every caller and cut there.
    pub fn emit(&self, out: &mut impl BufMut) {
        let spi = self.spi.get(..255).unwrap_or(&self.spi);
        out.put_u8(self.protocol.code());
        out.put_u8(u8::try_from(spi.len()).unwrap_or(u8::MAX));
        out.put_u16(self.kind.code());
        out.put_slice(spi);
        out.put_slice(&self.data);
    }

    /// The SPI as ESP's four octets.
    pub fn esp_spi(&self) -> Option<net_types::Spi> {
        let raw = <[u8; 4]>::try_from(self.spi.as_slice()).ok()?;
        net_types::Spi::try_from(u32::from_be_bytes(raw)).ok()
    }
}
