-- +goose Up
-- Bytes of artifacts that were removed, to be deleted once nothing refers to them.
create table pipeline_waste (
    digest text   not null primary key,
    since  bigint not null
);
