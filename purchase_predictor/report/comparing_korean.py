"""What the report of the comparison says in Korean: the fields of `comparing_words.Words`."""

KOREAN = {
    "title": "모든 시장에 하나의 모델인가, 시장마다 자기 모델인가?",
    "what": (
        "각 시장을 그 시장의 데이터로만 학습한 모델과 모든 시장의 데이터로 학습한 모델로 같은 "
        "미래 노출에서 비교했습니다. 차이는 AUC의 차이, 즉 구매를 비구매보다 높게 매기는 빈도의 "
        "차이입니다."
    ),
    "bottom_line": (
        "{n}개 시장 가운데 {n_global}개는 모든 시장의 모델이 낫고, {n_local}개는 자기 모델이 "
        "나으며, {n_equivalent}개는 어느 쪽이든 같습니다. {n_unknown}개는 판단할 데이터가 "
        "부족합니다."
    ),
    "bottom_untrained": (
        " 자기 모델을 학습할 수 없는 {n}개 시장 가운데 {n_better}개에서 모든 시장의 모델이 "
        "우연보다 낫습니다."
    ),
    "bottom_pooled": (
        " 이런 시장들에서 평균적으로 글로벌 모델의 AUC가 {value} 높습니다({low} ~ {high}; 구간에 "
        "0이 들면 차이가 없을 수도 있습니다)."
    ),
    "own_question": "어느 시장이 자기 모델을 가져야 하는가?",
    "own_answer": "자기 모델: {local}. 모든 시장의 모델: {everyone}. 어느 쪽이든: {equivalent}.",
    "own_undecided": (
        " 어느 쪽으로도 드러나지 않음: {unknown}. 드러날 때까지는 모든 시장의 모델이 간단합니다. "
        "하나만 관리하면 되고 그 시장의 구매가 없어도 됩니다."
    ),
    "own_untrained": (
        " 자기 모델을 학습할 수 없음: {untrained}. 그 가운데 모든 시장의 모델이 우연보다 나은 곳: "
        "{better}."
    ),
    "own_unstopped": (
        " {unstopped}의 자기 모델은 학습을 멈출 때를 정할 데이터가 없었으므로(마지막 절), 그 "
        "차이는 너무 오래 또는 짧게 학습한 모델의 것일 수 있습니다."
    ),
    "nobody": "없음",
    "size_question": "구매 몇 건부터인가?",
    "size_answer": "학습 곡선에서 자기 모델이 따라잡은 건수({level} 구간): {found}.",
    "size_unseen": (
        "보이지 않음: 학습 곡선을 보면, 시장이 가진 학습 구매(최대 {largest}건, {market}) 안에서 "
        "모든 시장의 모델을 따라잡은 자기 모델은 없습니다."
    ),
    "size_global": (
        "시장 {n}개에서 비교한 모델들의 차이가 보이는 추세로는(탐색적) 학습 구매가 {span}건인 "
        "시장에서 모든 시장의 모델이 나을 것으로 예상됩니다. 그 규모에서 우위의 {level} 구간이 "
        "0보다 위입니다(본 규모: {smallest}~{largest}건)."
    ),
    "size_local": (
        "시장 {n}개에서 비교한 모델들의 차이가 보이는 추세로는(탐색적) 학습 구매가 {span}건인 "
        "시장에서 자기 모델이 나을 것으로 예상됩니다. 그 규모에서 우위의 {level} 구간이 0보다 "
        "위입니다(본 규모: {smallest}~{largest}건)."
    ),
    "size_neither": (
        "시장 {n}개에서 비교한 모델들의 차이가 보이는 추세로는(탐색적) 학습 구매 "
        "{smallest}~{largest}건의 어느 규모에서도 어느 모델이 낫다고 드러나지 않습니다({level} "
        "구간)."
    ),
    "size_left_out": (
        "시장을 하나씩 빼고 나머지로 구한 구간(테스트 데이터의 우연을 더한 것)은 뺄 수 있는 시장 "
        "가운데 {share}에서 차이를 담았습니다."
    ),
    "size_unstopped": (
        "이 추세에는, 자기 모델의 학습을 언제 멈출지 정할 데이터가 없었던 {unstopped}도 들어 "
        "있습니다."
    ),
    "new_question": "새로운 나라에서는 무엇을 예상하는가?",
    "new_answer": (
        "그 나라를 본 적 없는 모델의 AUC는 본 모델보다 평균 {value}({low} ~ {high}) "
        "높습니다(음수면 낮습니다). 나라별로는 {least} ~ {most}입니다."
    ),
    "country_question": "어느 나라인지를 모델에 알려 주면 도움이 되는가?",
    "country_answer": (
        "알려 주는 것의 가치는 이 시장들에서 평균 AUC {worth}입니다(음수면 해로움). 탐색적입니다."
    ),
    "culture_question": "한 번도 보지 못한 나라의 문화를 모델에 알려 주면 도움이 되는가?",
    "culture_answer": (
        "문화 차원의 가치는 평균 AUC {worth}입니다(음수면 해로움). 무작위 숫자보다 나은 정도"
        "({n}번 추출): {beyond}. {shown} 탐색적입니다."
    ),
    "culture_shown": "모든 구간이 0보다 위이므로 문화 차원은 무언가를 말해 줍니다.",
    "culture_not_shown": (
        "0보다 위에 있지 않은 구간이 있으므로 무언가를 말해 준다는 것은 드러나지 않았습니다."
    ),
    "left_out": (
        "--quick으로 학습 곡선, 전이, 문화를 제외했습니다. --quick이 없으면 LightGBM으로, "
        "--full이 있으면 퓨전으로 측정합니다."
    ),
    "preliminary": "1: 잠정적이며, 발표에는 다섯 개가 필요합니다",
    "rows": "데이터 수",
    "rows_text": (
        "비교한 시장 {markets}개의 학습 {n}행, 구매 {positive}건. 모든 시장의 모델은 데이터의 "
        "모든 시장에서 학습합니다"
    ),
    "by_flat": " 단순한 열의 LightGBM으로 측정했으므로 다른 모델의 값과 나란히 읽지 않습니다.",
    "caveat_averages": (
        "상자의 평균은 시장마다 다를 수 있음을 허용합니다(무작위 효과). “macro”는 자기 모델이 "
        "있는 바로 이 시장들의 평균이라 구간이 더 좁습니다."
    ),
    "market": "시장",
    "verdict": "판정",
    "verdict_global": "모든 시장의 모델",
    "verdict_local": "자기 모델",
    "verdict_equivalent": "동등 (±{margin} 이내)",
    "verdict_not_enough": "데이터 부족: 테스트 구매 {n}건",
    "verdict_untrained": "자기 모델 없음: 학습 구매 {n}건, 또는 멈추거나 보정할 데이터 부족",
    "over_chance": "; 모든 시장의 모델은 우연(AUC 0.5)보다 {gap} 나음",
    "under_chance": "; 모든 시장의 모델은 우연(AUC 0.5)보다 {gap} 못함",
    "chance_undecided": "; 모든 시장의 모델이 우연보다 나은지는 알 수 없음",
    "verdict_same": "소수 {digits}자리까지 같음",
    "verdict_undecided": "데이터 부족: {detectable} 이상의 차이라면 다섯 번 가운데 네 번 찾음",
    "gap": "글로벌 − 로컬",
    "gap_axis": "AUC, 글로벌 − 로컬",
    "gap_note": (
        "0의 오른쪽이면 모든 시장의 모델이 낫습니다. 막대: 사용자를 재표집한 {level} 구간(대응 "
        "비교), p는 시장들에 대한 Holm 보정(구간은 보정하지 않음), “탐지 가능한 최소 차이”는 "
        "다섯 번 가운데 네 번 찾아낼 차이. 마지막 줄: 시장 평균(Hartung–Knapp)과 한 시장이 더 "
        "있을 때의 구간. 자기 모델이 없는 시장은 표에 있습니다."
    ),
    "mean": "시장 평균",
    "new_market": "새로운 시장(규모를 고려하지 않음)",
    "arms": "시장을 서비스하는 모든 방법",
    "arms_note": (
        "시장 내 AUC와 {level} 구간. global: 국가를 아는 모든 시장의 모델, with-adapters: 층을 "
        "국가에 맞춤, adapted: 그 시장의 데이터로 더 학습, local: 그 데이터로만 학습, pooled: "
        "global과 local의 가중 평균."
    ),
    "arm": "방법",
    "auc": "AUC",
    "auc_difference": "AUC의 차이",
    "entropy": "정규화 엔트로피",
    "curve": "시장의 자기 모델은 언제 따라잡는가?",
    "curve_axis": "로컬 모델의 학습 구매 건수",
    "curve_gap": "AUC, 로컬 − 글로벌",
    "curve_note": (
        "각 시장 사용자의 부분집합으로 학습한 모델. 0보다 위면 로컬 모델이 모든 시장의 모델을 "
        "따라잡은 것입니다."
    ),
    "break_even": "손익 분기",
    "more_than": "{n}건 초과",
    "fewer_than": "{n}건 이하",
    "conversions": "학습 구매 건수",
    "test_conversions": "테스트 구매 건수",
    "kind_question": "모든 시장의 모델 가운데 어느 것인가?",
    "kind_answer": (
        "층을 국가에 맞춘 모델(global-with-adapters)의 AUC가 평범한 모델보다 평균 {value}({low} ~ "
        "{high}) 높습니다(음수면 낮습니다). 탐색적입니다."
    ),
    "detectable": "탐지 가능한 최소 차이",
    "p_holm": "p (Holm)",
    "transfer": "한 시장에서 학습하여 다른 시장에 쓰기",
    "transfer_note": "AUC. 행은 학습한 시장, 열은 서비스하는 시장.",
    "trained_on": "학습한 시장",
    "served": "서비스하는 시장",
    "never_seen": "한 번도 보지 못한 시장",
    "never_seen_note": (
        "이 시장에서 아무것도 배우지 않은 나머지 시장의 모델에서 모든 시장의 모델을 뺀 값. 0보다 "
        "아래면 데이터 없이 시장을 열 때의 비용입니다."
    ),
    "culture": "문화는 새로운 시장에 대해 무엇을 말해 주는가?",
    "culture_note": (
        "한 번도 보지 못한 시장에서, 모델에 알려 준 정보별 AUC에서 아무것도 알려 주지 않은 AUC를 "
        "뺀 값. 문화 차원은 무작위 벡터보다 나을 때만 의미가 있습니다."
    ),
    "trend": "글로벌 − 로컬, 시장의 규모별",
    "trend_axis": "학습 구매 건수",
    "trend_note": (
        "구매 건수의 로그에 대한 차이, 본 규모 안에서만. 띠: 그 규모의 새로운 시장에서 예상되는 "
        "차이의 {level} 구간."
    ),
    "exploratory": "모든 비교",
    "exploratory_note": (
        "첫 비교를 제외하면 탐색적입니다. p는 한 비교의 시장들에 대해 보정했고(Holm) 비교의 수에 "
        "대해서는 아닙니다. NE: 정규화 엔트로피, 낮을수록 좋음."
    ),
    "against": "기준",
    "metric": "지표",
    "table": "표",
    "caveats": "말하지 않는 것",
    "caveat_primary": (
        "보기 전에 정한 비교는 하나입니다: 시장 내 AUC, 국가를 아는 글로벌 − 로컬. 나머지는 모두 "
        "탐색적입니다."
    ),
    "caveat_undecided": (
        "“데이터 부족”은 “같다”가 아닙니다. 동등은 두 단측 검정이 모두 ±{margin} 이내의 차이를 "
        "보일 때만 말합니다."
    ),
    "caveat_seeds": (
        "구간은 테스트 데이터의 우연{and_models}을 담습니다. 발표에는 시드 다섯 개가 필요합니다."
    ),
    "caveat_dimensions": (
        "문화 차원(Hofstede, 2015)은 국가를 설명하며 개인을 설명하지 않습니다. 불확실성 회피와 "
        "남성성의 신뢰도에는 이견이 있습니다(Minkov 2018)."
    ),
    "caveat_unstopped": (
        "{markets}: 검증 데이터 가운데 학습을 멈출 때를 정하는 절반의 결과가 한 가지뿐입니다"
        "(적어도 한 시드에서). 이런 시장의 자기 네트워크는 마지막 에폭까지 학습해 리드아웃 없이 "
        "답하고, 미세 조정 네트워크는 모든 시장의 것 그대로이고 리드아웃만 학습하며, LightGBM의 "
        "트리 수는 모든 시장의 모델과 같고, 학습 곡선은 그리지 않습니다."
    ),
    "caveat_flat": (
        "학습 곡선, 전이, 문화는 그림, 제목, 다음 클릭 점수 없이 LightGBM을 쓰므로 AUC가 위의 "
        "방법들보다 낮습니다."
    ),
    "caveat_full": (
        "학습 곡선, 전이, 문화는 지점마다 해당 시장의 데이터만으로(그림과 제목의 인코더까지) 새로 "
        "학습한 퓨전을 씁니다."
    ),
    "seeds": "시드",
    "system": "시스템",
    "data": "데이터",
    "kappa": "pooled에서 로컬 모델이 절반의 비중을 갖는 구매 건수(손익 분기가 아님)",
    "never": "없음",
}
