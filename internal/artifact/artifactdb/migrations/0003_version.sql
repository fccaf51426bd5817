-- +goose Up
-- Versions that were given out, so that two revisions never get the same one
-- and one revision never gets two.
create table version_given (
    org        text   not null,
    service_id text   not null,
    revision   text   not null,
    version    text   not null,
    created    bigint not null,
    primary key (org, service_id, revision),
    unique (org, service_id, version)
);
