-- +goose Up
-- Blobs that are smaller than what a file of their own costs.
create table blob_small (
    digest text   not null primary key,
    size   bigint not null,
    bytes  text   not null -- base64
);
