-- +goose Up
create table approval (
    org           text   not null,
    id            text   not null primary key,
    release_id    text   not null,
    digest        text   not null,
    environment   text   not null,
    config_digest text   not null,
    account_id    text   not null,
    by_name       text   not null,
    verdict       text   not null, -- approve | reject
    reason        text   not null,
    evidence_id   text   not null,
    expires       bigint not null,
    at            bigint not null
);
create index approval_subject on approval (digest, environment);
