# ModelInfer: tensors as the Open Inference Protocol names them.

InferShape = _namedtuple("InferShape", "name type dims position", module="assay._core")
DecodedInfer = _namedtuple("DecodedInfer", "model version id rows outputs is_bulk", module="assay._core")


cdef vector[TensorShape] _tensor_shapes(object shapes) except *:
    cdef vector[TensorShape] out
    cdef TensorShape one
    for shape in shapes:
        one.name = string_of_str(shape.name)
        one.type = <TensorType>enum_number(shape.type, TENSOR_TYPES, f"tensor {shape.name!r}: type")
        one.index = shape.position
        one.dims.clear()
        for dim in shape.dims:
            one.dims.push_back(dim)
        out.push_back(one)
    return out


# What a model declares, where a runner can give or take it: tensors of the five types with a batch axis.
cdef list _shapes_of(tuple infos):
    numbers = set(TENSOR_TYPES.values())
    return [
        InferShape(info.name, info.onnx_type, info.dims, index)
        for index, info in enumerate(infos) if info.onnx_type in numbers and info.has_batch_axis
    ]


# OrtModel.infer_row().
cdef bytes _infer_row(OrtModel model, FeaturePlan plan, bytes row):
    cdef InferSchema schema
    cdef vector[uint32_t] wanted
    cdef unique_ptr[Runner] runner
    cdef OutputView view
    cdef size_t i, row_bytes = plan.row_bytes
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(row)
    cdef Status status
    if <size_t>len(row) != row_bytes:
        raise ValueError(f"row: expected {row_bytes} bytes, not {len(row)}")
    check_status(InferSchema.make(
        dereference(plan._plan), _tensor_shapes(_shapes_of(model.inputs)), _tensor_shapes(_shapes_of(model.outputs)), &schema
    ))
    for i in range(schema.outputs.size()):
        wanted.push_back(schema.outputs[i].shape.index)
    model._make_runner_of(plan, 1, wanted, &runner)
    with nogil:
        status = _run(dereference(runner), data, 1, row_bytes)
    check_status(status)
    outputs = bytes(schema.output_bytes)   # ours alone until it is returned
    for i in range(schema.outputs.size()):
        view = runner.get().output(schema.outputs[i].shape.index)
        if view.data == NULL or view.row_elements * tensor_type_bytes(view.type) != schema.outputs[i].row_bytes:
            raise ValueError(f"output {str_of_string(schema.outputs[i].shape.name)!r} is not of the declared size")
        memcpy(PyBytes_AS_STRING(outputs) + schema.outputs[i].offset_bytes, view.data, schema.outputs[i].row_bytes)
    return outputs


# The outputs that ModelInfer may give, of a lane over this plan. `model`: OrtModel, PuppetModel, or a FaultyModel of one.
cdef int _set_infer(LaneSpec& spec, object model, FeaturePlan plan, vector[uint32_t]* wanted) except -1:
    cdef InferSchema schema
    cdef size_t i
    if isinstance(model, FaultyModel):
        model = (<FaultyModel>model).inner
    if not isinstance(model, (OrtModel, PuppetModel)):
        raise TypeError(f"runner: expected OrtModel or PuppetModel, not {type(model).__name__}")
    spec.infer_inputs = _tensor_shapes(_shapes_of(model.inputs))
    spec.infer_outputs = _tensor_shapes(_shapes_of(model.outputs))
    check_status(InferSchema.make(dereference(plan._plan), spec.infer_inputs, spec.infer_outputs, &schema))
    for i in range(schema.outputs.size()):
        wanted.push_back(schema.outputs[i].shape.index)
    return 0


cdef object _decode_infer(FeaturePlan plan, bytes data, size_t rows_max, object inputs, object outputs):
    cdef InferScan scan
    cdef InferSchema schema
    cdef InferCall call
    cdef Violations violations
    cdef vector[uint8_t*] rows
    cdef size_t i, row_bytes = plan.row_bytes
    cdef Status status
    check_status(InferSchema.make(dereference(plan._plan), _tensor_shapes(inputs), _tensor_shapes(outputs), &schema))
    status = scan_infer_request(view_of_bytes(data), scan)
    if not status.ok():
        return refusal_of_status(status, NULL)
    status = check_infer(scan, schema, rows_max, call, violations)
    if not status.ok():
        return refusal_of_status(status, &violations)
    matrix = bytes(call.row_count * row_bytes)   # ours alone until it is returned
    for i in range(call.row_count):
        rows.push_back(<uint8_t*>PyBytes_AS_STRING(matrix) + i * row_bytes)
    write_infer_rows(scan, schema, call, rows.data())
    return DecodedInfer(
        str_of_view(scan.model), str_of_view(scan.version), str_of_view(scan.id), matrix,
        tuple([str_of_string(schema.outputs[i].shape.name) for i in range(schema.outputs.size()) if call.outputs_wanted >> i & 1]),
        bool(is_bulk(scan, call.row_count)),
    )
