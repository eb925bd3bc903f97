"""TFLite files of quantized models: conversion, encodings, size and parity."""
