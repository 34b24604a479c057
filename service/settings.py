"""The settings: one frozen value, each field of which is an environment variable."""

from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct
from msgspec.structs import FieldInfo, fields

from db.engines.url import PORT_MAX
from service.database_url import DEFAULT, EXAMPLES
from service.quotas import NO_QUOTAS, Quotas
from service.variables import bounds, expected, kind_of, shown, variable_of
from service.worker_count import AUTO

WORKERS_MAX = 64

# Of a private and a public key: with a secret that both sides have, a token could be made here.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"
]


class Setting(NamedTuple):
    """A row of the settings table, without passwords."""

    variable: str
    default: str
    value: str
    expected: str
    description: str


class Settings(Struct, frozen=True, kw_only=True):
    """The settings: each field is an environment variable, and its type says which values it takes."""

    database_url: Annotated[str, Meta(description="The database that stores the items.", examples=EXAMPLES)] = DEFAULT
    database_url_file: str | None = None  # the path in DATABASE_URL_FILE, if that was read; not a setting of its own
    workers_are_auto: bool = False  # whether their number was chosen here; neither is this one
    port: Annotated[int, bounds(0, PORT_MAX, "The TCP port; 0 takes any free one.")] = 8000
    host: Annotated[str, Meta(description="The address to listen on.", examples=["127.0.0.1", "::"])] = "127.0.0.1"
    auth: Annotated[
        frozenset[Literal["tokens", "jwt", "mtls"]],
        Meta(description="How callers are authenticated; off: whoever reaches the service may do everything."),
    ] = frozenset()
    auth_off_anywhere: Annotated[
        bool, Meta(description="Whether ITEMSVC_AUTH may be off on an address that is not loopback.")
    ] = False
    auth_cache_ms: Annotated[
        int, bounds(1, 5000, "For how long a token that was revoked, or a user who was changed, may count as before.")
    ] = 5000
    login_token_lifetime_s: Annotated[
        int, bounds(60, 10**8, "How long a token counts that was issued for a password.")
    ] = 3600
    login_address_tries_max: Annotated[
        int, bounds(0, 10**6, "Wrong passwords a minute from one address, for each worker; then 429. 0: not counted.")
    ] = 60
    jwt_issuer: Annotated[
        str, Meta(description="With jwt: the `iss` that a token must have.", examples=["https://login.example.org/"])
    ] = ""
    jwt_audience: Annotated[
        str, Meta(description="With jwt: what the `aud` of a token must have.", examples=["https://items.example.org"])
    ] = ""
    jwt_jwks: Annotated[
        str,
        Meta(
            description="With jwt: where the issuer's keys are; a URL is https, and http on loopback alone.",
            examples=["https://login.example.org/jwks.json", "/etc/items/jwks.json"],
        ),
    ] = ""
    jwt_algorithms: Annotated[
        frozenset[Algorithm], Meta(description="With jwt: the algorithms by which tokens may be signed.")
    ] = frozenset({"RS256", "ES256", "EdDSA", "Ed25519"})
    jwt_subject_claim: Annotated[
        str,
        Meta(description="With jwt: the claim that has a user's username or email.", examples=["sub", "email"]),
    ] = "sub"
    jwt_scope_claim: Annotated[
        str,
        Meta(
            description="With jwt: the claim to whose scopes a token is limited; without it, it has those of the role.",
            examples=["scope"],
        ),
    ] = ""
    caller_requests_per_s: Annotated[
        Quotas, Meta(description="Requests of one caller in a second, for each worker; then 429. 0: no limit.")
    ] = NO_QUOTAS
    caller_requests_max: Annotated[
        Quotas,
        Meta(description="Requests of one caller that a worker serves at the same time; then 429. 0: no limit."),
    ] = NO_QUOTAS
    tls_cert: Annotated[
        str,
        Meta(
            description="The service's certificate, and those between it and its CA (PEM): with it, https alone.",
            examples=["/etc/items/tls.crt"],
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="Its private key (PEM).", examples=["/etc/items/tls.key"])] = ""
    tls_version_min: Annotated[Literal["1.2", "1.3"], Meta(description="The lowest version of TLS.")] = "1.3"
    tls_client_ca: Annotated[
        str,
        Meta(description="With mtls: the CAs of clients' certificates (PEM).", examples=["/etc/items/clients-ca.crt"]),
    ] = ""
    tls_client_crl: Annotated[
        str,
        Meta(description="With mtls: the CAs' revocation lists (PEM), if any.", examples=["/etc/items/clients.crl"]),
    ] = ""
    tls_client_name: Annotated[
        Literal["san", "email", "dns", "cn"],
        Meta(
            description="With mtls: what of a client's certificate is a username or email: its email addresses or"
            " DNS names alone, its common name, or san: both of the former, and the latter where there are none."
        ),
    ] = "san"
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=WORKERS_MAX,
            description="Worker processes; auto: one for each processor that the control group allows, as far as its"
            " memory and PostgreSQL's connections reach, and one on SQLite.",
            examples=[AUTO],
        ),
    ] = 1
    coalesce: Annotated[bool, Meta(description="Whether requests that wait at the same time share a statement.")] = True
    batch_size_max: Annotated[int, bounds(1, 1000, "Requests that share one statement.")] = 256
    batch_connections: Annotated[int, bounds(3, 100, "A worker's connections for batches; two for filtered lists.")] = 6
    queue_length_max: Annotated[int, bounds(1, 10**6, "Requests waiting in a batcher; then 503.")] = 4096
    queue_wait_ms_max: Annotated[int, bounds(1, 60_000, "Longest wait in a batcher; then 503.")] = 1000
    pool_size: Annotated[int, bounds(1, 100, "A worker's connections for transactions.")] = 4
    pool_wait_ms: Annotated[
        int, bounds(1, 60_000, "A transaction that would wait longer for one of them is refused with a 503.")
    ] = 1000
    connect_timeout_ms: Annotated[int, bounds(1, 60_000, "How long connecting may take.")] = 2000
    statement_timeout_ms: Annotated[int, bounds(1, 600_000, "How long a statement may take.")] = 5000
    request_timeout_ms: Annotated[int, bounds(10, 600_000, "How long a request may take.")] = 10_000
    idempotency_key_lifetime_s: Annotated[int, bounds(60, 10**8, "How long an idempotency key is remembered.")] = 86_400
    idempotency_keys_max: Annotated[
        int, bounds(1, 10**12, "About so many keys are remembered; a write with another one is then a 503.")
    ] = 10**8
    pgbouncer: Annotated[bool, Meta(description="Whether DATABASE_URL leads to PgBouncer in transaction mode.")] = False
    body_bytes_max: Annotated[int, bounds(1024, 2**30, "The largest body; beyond, 413.")] = 4 * 1024**2
    body_timeout_ms: Annotated[
        int,
        bounds(
            1, 600_000, "How long a body may take, in addition to the time for its bytes at the slowest rate; then 408."
        ),
    ] = 10_000
    body_bytes_per_s_min: Annotated[int, bounds(1, 2**30, "The slowest rate of a body's bytes.")] = 64 * 1024
    idle_timeout_ms: Annotated[  # longer than load balancers' 60 s: the client's side has to close first
        int, bounds(1, 3_600_000, "How long a connection may wait for a request's whole head.")
    ] = 65_000
    send_timeout_ms: Annotated[
        int, bounds(100, 600_000, "How long a client may take nothing of a response; then its connection is closed.")
    ] = 10_000
    requests_max: Annotated[int, bounds(1, 10**6, "Requests that a worker serves at the same time; then 503.")] = 4096
    metrics: Annotated[bool, Meta(description="Whether requests and all else are counted, for /metrics.")] = True
    metrics_port: Annotated[
        int, bounds(0, PORT_MAX, "A port of its own for /metrics, which is http alone; 0: the service's.")
    ] = 0
    access_log: Annotated[bool, Meta(description="Log a line for every request.")] = False
    slow_request_ms: Annotated[
        int, bounds(1, 600_000, "Log a line, as a warning, for every request that is slower.")
    ] = 1000
    log_level: Annotated[Literal["info", "warning", "error"], Meta(description="The least that is logged.")] = "info"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="How lines of the log are written; auto: as text on a terminal, and as JSON otherwise."),
    ] = "auto"
    server_timing: Annotated[bool, Meta(description="Responses say in Server-Timing how long they took.")] = False
    docs: Annotated[bool, Meta(description="Serve /docs, a page on which people read the API and try it.")] = False
    traces: Annotated[
        bool,
        Meta(description="Export traces to OTEL_EXPORTER_OTLP_ENDPOINT, by OTLP over HTTP; needs the extra otel."),
    ] = False
    trace_ratio: Annotated[
        float, Meta(ge=0, le=1, description="With traces: the part that is traced of requests without a traceparent.")
    ] = 0.01
    debug: Annotated[bool, Meta(description="Log SQL and tracebacks; responses never show them.")] = False
    shutdown_timeout_s: Annotated[int, bounds(1, 600, "How long a shutdown waits for open requests.")] = 20
    drain_delay_ms: Annotated[
        int, bounds(0, 600_000, "How long the service goes on serving after SIGTERM, while clients turn away.")
    ] = 5000
    worker_lifetime_s: Annotated[int, bounds(0, 30 * 86_400, "Age at which a process is replaced; 0: never.")] = 0
    worker_memory_mib_max: Annotated[
        int, bounds(0, 2**20, "Resident memory at which a process is replaced, in MiB; 0: never.")
    ] = 0

    def __repr__(self) -> str:
        """Return the settings by variable, without the database's password."""
        return f"Settings({', '.join(f'{row.variable}={row.value}' for row in self.described())})"

    def described(self) -> list[Setting]:
        """Return the rows of the settings table, with the values of these settings."""
        return [
            Setting(
                variable=variable_of(field.name),
                default=shown(field.name, field.default),
                value=shown(field.name, getattr(self, field.name)),
                expected=expected(field),
                description=kind_of(field)[1].description or "",
            )
            for field in setting_fields()
        ]


def setting_fields() -> list[FieldInfo]:
    """Return the fields that are settings."""
    return [field for field in fields(Settings) if field.name not in {"database_url_file", "workers_are_auto"}]
