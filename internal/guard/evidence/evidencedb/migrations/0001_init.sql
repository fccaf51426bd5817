-- +goose Up
create table evidence (
    org               text    not null,
    id                text    not null primary key,
    key               text    not null,
    identity          text    not null, -- of the signer, a URI
    predicate_type    text    not null,
    predicate_version integer not null,
    subject           text    not null, -- the first digest, as algorithm:value
    subjects          text    not null, -- every digest, separated by spaces
    statement         text    not null, -- the signed bytes
    key_id            text    not null, -- of the certificate authority
    not_before        bigint  not null,
    not_after         bigint  not null,
    at                bigint  not null, -- of the timestamp token
    signature         text    not null, -- base64, as are the next two
    certificate       text    not null,
    timestamp         text    not null,
    entry             text    not null, -- the log entry's body
    entry_id          text    not null,
    bundle            text,             -- with the next one, once the log has given a position
    ledger_index      bigint,
    unique (org, predicate_type, subject, key)
);
create index evidence_incomplete on evidence (id) where bundle is null;

create table evidence_subject (
    org         text not null,
    digest      text not null,
    evidence_id text not null references evidence (id),
    primary key (org, digest, evidence_id)
);
